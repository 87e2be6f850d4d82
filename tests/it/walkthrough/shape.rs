//! What of an output a document can promise: everything but what differs from run to run and from kubectl to kubectl.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// The lines of an output, each without what nobody can promise, in any order, repeated ones once.
pub(crate) type Shape = BTreeSet<String>;

const WHAT_DIFFERS: &[(&str, &str)] = &[
    // The generated parts of pods' names, and how old things are.
    (r"-[0-9a-z]{8,10}-[0-9a-z]{5}\b", "-POD"),
    (r"\s(\d+[dhms])+(\s|$)", " AGE$2"),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "ADDRESS"),
    (r"\b\w{3} \w{3} +\d+ \d\d:\d\d:\d\d( [AP]M)? UTC \d{4}", "DATE"),
    // Files: of what `ls -l` prints only kind and name, and names of versions of secret volumes have their times.
    (r"^([-dl])[-rwxtsST]{9}[.+]? +\d+ +\S+ +\S+ +\d+ +\w+ +\d+ +[\d:]+ ", "$1 "),
    (r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+", "..VERSION"),
    (r":3\d{4}/TCP", ":NODEPORT/TCP"),
    // What newer and older programs say differently.
    (r#""podname": "[^"]*","clustername": "[^"]*","#, ""),
    (r"\.extensions\b", ".apps"),
    (r#" (force )?deleted from \S+ namespace$"#, " deleted"),
    (r#"""#, ""),
    (r" ?= ?", "="),
    (r"\s+", " "),
];

/// The headers of tables, which documents leave out now and then, and sizes of directories.
const LEFT_OUT: &str = r"^(NAME( [A-Z][-A-Z()]*)+|total \d+|d \.\.?)$";

/// The shape of what was printed, or is said to be.
pub(crate) fn shape<'a>(lines: impl IntoIterator<Item = &'a str>) -> Shape {
    static DIFFERS: LazyLock<Vec<(Regex, &str)>> =
        LazyLock::new(|| WHAT_DIFFERS.iter().map(|(what, instead)| (Regex::new(what).unwrap(), *instead)).collect());
    static IGNORED: LazyLock<Regex> = LazyLock::new(|| Regex::new(LEFT_OUT).unwrap());
    let bare = |line: &str| {
        let line = line.trim_end().to_owned();
        let line = DIFFERS.iter().fold(line, |line, (what, instead)| what.replace_all(&line, *instead).into_owned());
        line.trim().to_owned()
    };
    lines.into_iter().map(bare).filter(|line| !line.is_empty() && !IGNORED.is_match(line)).collect()
}

/// Whether kubectl or OpenSSL tells this to stderr, which documents show like any other output.
pub(crate) fn is_told_to_stderr(line: &str) -> bool {
    ["Warning: ", "depth=", "verify return:"].iter().any(|start| line.starts_with(start))
}

#[test]
fn what_differs_from_run_to_run_is_no_difference() {
    let same = |left: &str, right: &str| assert_eq!(shape(left.lines()), shape(right.lines()));
    same(
        "details-v1-59489d6fb6-m5s5j       2/2     Running   0          4h31m",
        "NAME                          READY   STATUS    RESTARTS   AGE\ndetails-v1-7f8c9d6b5-x2x1p    2/2   Running   0   9s",
    );
    same("one Mon Nov  4 04:20:21 UTC 2019\none Mon Nov  4 04:20:22 UTC 2019", "one Sat Nov 21 20:44:58 UTC 2026");
    same(
        "deployment.extensions \"reviews-v1\" deleted",
        "deployment.apps \"reviews-v1\" deleted from default namespace",
    );
    same(
        "total 4\ndrwxr-xr-x 3 root root 4096 Jul 29 00:35 ..\n\
         lrwxrwxrwx 1 root root   31 Jul 29 00:35 ..data -> ..2019_07_29_00_35_10.417805046",
        "lrwxrwxrwx 1 nobody 0 31 Nov 21 20:44 ..data -> ..2026_11_21_20_44_10.012345678",
    );
    same("depth=1 O = \"example Inc.\", CN = a", "depth=1 O=example Inc., CN=a");
}

#[test]
fn everything_else_is() {
    assert_ne!(shape(["a-v1 1/1 Running 0 3s"]), shape(["a-v1 2/2 Running 0 3s"]));
    assert_ne!(shape(["one world"]), shape(["one world", "two world"]));
}
