//! What Envoy 1.36 takes and refuses was seen with `envoy --mode validate`, each expression as the `safe_regex` of a route; of
//! those that it finds too large by its default, what it says with the limit that Istio sets.

use super::*;

fn matches(expression: &str, text: &str) -> bool {
    compile(expression).unwrap().is_match(text)
}

#[test]
fn what_envoy_takes_is_taken() {
    for expression in [
        r"\pN+",
        r"\p{Greek}",
        r"\p{^Greek}",
        r"\P{^Greek}",
        r"\p{Lu}",
        r"\p{Any}",
        r"\Qa.b\E",
        r"\Qa.b",
        r"\123",
        r"\01",
        r"\0",
        r"\08",
        r"\x41",
        r"\x{41}",
        r"\x{ff}",
        r"\377",
        r"\z",
        r"\A",
        r"\b",
        r"\B",
        r"\_",
        r"\<",
        r"\-",
        r"\/",
        r"\a\f\v",
        "a{1000}",
        "(a{100}){10}",
        "((a{10}){10}){10}",
        "(a{1000}){1}",
        "a{,5}",
        "a{",
        "a{b",
        "a{2",
        "{a}",
        "a{01}",
        "x{0}",
        "a}",
        "a]",
        "a+?",
        "a??",
        "a{2}?",
        "(a*)*",
        "^*",
        "(?:)*",
        "(?i)a",
        "(?i-s:a)",
        "(?U)a+",
        "(?-i)a",
        "(?)a",
        "(?P<n>a)",
        "(?<n>a)",
        "(?P<1a>x)",
        "(?P<n>a)(?P<n>b)",
        "[[:digit:]]",
        "[[:^digit:]]",
        "[a&&b]",
        "[a~~b]",
        "[[a]]",
        "[]a]",
        "[^]a]",
        "[a-b-c]",
        "[a-b--c]",
        "[+--]",
        r"[\d-z]",
        r"[\pN]",
        r"[\p{Greek}x]",
        "[:alpha:]",
        r"\d+\s\w",
        "a||b",
        "()",
        "(|a)",
        r"[\101]",
        r"[\07]",
        r"[\<]",
        r"[\_]",
        "a\nb",
        "é+",
        "[é-ü]",
        r"\b{start}a",
        r"\b{2}",
        "(?s).",
        "(?m)^a$",
        "(?is)a",
        "(?iU)a",
        "[^/]{1,255}",
    ] {
        assert!(compile(expression).is_ok(), "{expression}: {:?}", compile(expression));
    }
}

#[test]
fn what_envoy_refuses_is_refused() {
    for expression in [
        r"\p{Script=Greek}",
        r"\p{Alphabetic}",
        r"\p{letter}",
        r"\p{greek}",
        r"\p{Cn}",
        r"\p{LC}",
        r"\1",
        r"(a)\1",
        r"\8",
        r"\u0041",
        r"\u{41}",
        r"\Z",
        r"[\b]",
        r"\é",
        r"\h",
        r"\X",
        r"\R",
        r"\e",
        r"\cA",
        "a{1001}",
        "(a{100}){11}",
        "(a{2,}){501}",
        "((a{10}){10}){11}",
        "{2}",
        "a{2,1}",
        "a**",
        "a++",
        "a*+",
        "a?+",
        "a*??",
        "a{2}{3}",
        "a{2}+",
        "a{2}*",
        "*a",
        "a|*",
        "(?i)*",
        "(*)",
        "(?x)a b",
        "(?u)a",
        "(?R)a",
        "(?i-)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        "(?<!a)b",
        "(?>a)",
        "(?#c)a",
        "(?P<a.b>x)",
        "(?P<n>a)(?P=n)",
        "(?P<é>x)",
        "[[:foo:]]",
        "[a--b]",
        "[]",
        r"[a-\d]",
        "[z-a]",
        r"[\Qa\E]",
        "[a",
        "(a",
        "a)",
        "a\\",
        r"\x{110000}",
        r"\x{100}",
        r"\400",
        r"\x{D800}",
        r"\p{L",
        r"\pX",
        r"\p",
        r"[\1]",
    ] {
        assert!(compile(expression).is_err(), "{expression}");
    }
}

#[test]
fn what_the_crate_cannot_say_is_refused_with_the_reason() {
    for (expression, reason) in
        [(r"\C", r"has \C"), ("(a{1000}){1000}", "more than 1000 times"), (r"\pL{500}", "not a usable")]
    {
        assert!(compile(expression).unwrap_err().contains(reason), "{expression}");
    }
}

#[test]
fn the_whole_text_must_match() {
    assert!(matches("a|bc", "bc"));
    assert!(!matches("a|b", "bc"));
    assert!(matches(".*/ns/default/.*", "spiffe://cluster.local/ns/default/sa/sleep"));
    assert!(!matches("a", "a\n"));
}

#[test]
fn perl_classes_are_ascii() {
    assert!(matches(r"\d+", "12"));
    assert!(!matches(r"\d", "٣"));
    assert!(!matches(r"[\w-]+", "é"));
    assert!(matches(r"[\W]", "é"));
    assert!(matches(r"a\b.b\b", "a-b"));
}

#[test]
fn brackets_and_braces_stand_for_themselves_where_they_do_in_re2() {
    for (expression, text) in [
        ("[[a]", "["),
        ("[]a]", "]"),
        ("[^]a]", "b"),
        ("[[:digit:]x]+", "1x"),
        ("[a&&b]+", "a&b"),
        ("[+--]+", "+,-"),
        ("a{,5}", "a{,5}"),
        ("a{b", "a{b"),
        ("{a}", "{a}"),
        ("a{01}", "a{01}"),
        ("a}", "a}"),
        ("a{2}", "aa"),
        ("a{2,}", "aaa"),
    ] {
        assert!(matches(expression, text), "{expression}");
    }
    assert!(!matches("[a&&b]", "c") && !matches("a{,5}", "aa"));
}

#[test]
fn numbers_names_and_quotes_stand_for_characters() {
    for (expression, text) in [
        (r"\Qa.b\E.", "a.bc"),
        (r"\123", "S"),
        (r"\0611", "11"),
        (r"\x41\x{42}", "AB"),
        (r"[\101-C]+", "ABC"),
        (r"\<\_", "<_"),
        (r"(?P<1>a)\-", "a-"),
        (r"\p{^Greek}", "a"),
        (r"\P{^Greek}", "α"),
        (r"[\p{Greek}1]+", "α1"),
    ] {
        assert!(matches(expression, text), "{expression}");
    }
    assert!(!matches(r"\Qa.b\E", "axb") && !matches(r"\p{^Greek}", "α"));
}

#[test]
fn groups_keep_their_numbers() {
    let regex = compile_part("(?P<first>a)(?<second>b)(c)").unwrap();
    assert_eq!(regex.replace("abc", "$3$2$1"), "cba");
}
