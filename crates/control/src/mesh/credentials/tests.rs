use pki::Authority;
use serde_json::json;

use super::*;

const GATEWAY: &str = "kubernetes://gateway";
const AUTHORITY: &str = "kubernetes://gateway-cacert";

fn secret(name: &str, items: &[(&str, &str)]) -> Secret {
    let items: BTreeMap<&str, &str> = items.iter().copied().collect();
    let mut secret: Secret = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}})).unwrap();
    let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    secret.data = Some(items.into_iter().map(|(key, text)| (key.to_owned(), bytes(text))).collect());
    secret
}

/// A chain, its key and its authority, PEM.
fn issued() -> [String; 3] {
    let authority = Authority::generate("peer").unwrap();
    let certificate = authority.issue_server(&["c2.example.com"], &[]).unwrap();
    [certificate.chain_pem, certificate.key_pem.unwrap(), authority.certificate_pem().to_owned()]
}

fn names() -> BTreeSet<String> {
    [GATEWAY, AUTHORITY].map(str::to_owned).into()
}

fn given(credentials: &Credentials, namespace: &str) -> Vec<String> {
    credentials.of(namespace, &names()).map(|(name, _)| name).collect()
}

#[test]
fn a_secret_may_have_its_items_under_any_of_the_keys_that_istio_knows() {
    let [chain, key, roots] = &issued();
    let both = |items: &[(&str, &str)]| {
        let mut credentials = Credentials::default();
        assert!(credentials.take(Step::Applied(secret("gateway", items))));
        given(&credentials, "ns")
    };
    assert_eq!(both(&[("tls.crt", chain), ("tls.key", key), ("ca.crt", roots)]), [GATEWAY, AUTHORITY]);
    assert_eq!(both(&[("cert", chain), ("key", key), ("cacert", roots)]), [GATEWAY, AUTHORITY]);
    assert_eq!(both(&[("tls.crt", chain), ("tls.key", key)]), [GATEWAY]);
    assert_eq!(both(&[("cert", chain), ("tls.crt", chain), ("tls.key", key)]), [GATEWAY], "half a pair is none");
}

#[test]
fn authorities_in_a_secret_of_their_own_come_first() {
    let ([chain, key, roots], [_, _, others]) = (issued(), issued());
    let mut credentials = Credentials::default();
    credentials.take(Step::Applied(secret("gateway", &[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &roots)])));
    let trusted = |credentials: &Credentials| {
        let found = credentials.of("ns", &names()).find(|(name, _)| name == AUTHORITY);
        match found.unwrap().1.r#type {
            Some(Type::ValidationContext(context)) => context.trusted_ca,
            other => panic!("{other:?}"),
        }
    };
    let first = trusted(&credentials);
    credentials.take(Step::Applied(secret("gateway-cacert", &[("cacert", &others)])));
    assert_ne!(trusted(&credentials), first);
    credentials.take(Step::Deleted(secret("gateway-cacert", &[])));
    assert_eq!(trusted(&credentials), first);
}

#[test]
fn what_cannot_be_used_leaves_what_was_there_and_is_told() {
    let ([chain, key, _], [other_chain, _, _]) = (issued(), issued());
    let good = secret("gateway", &[("tls.crt", &chain), ("tls.key", &key)]);
    let mut credentials = Credentials::default();
    assert_eq!(credentials.lack("ns", GATEWAY), Some(Lack::Missing));
    let wrong = secret("gateway", &[("tls.crt", &other_chain), ("tls.key", &key)]);
    credentials.take(Step::Applied(wrong.clone()));
    let Some(Lack::Unusable { why, earlier: false }) = credentials.lack("ns", GATEWAY) else { panic!("it is usable") };
    assert!(why.starts_with("tls.key cannot be used with tls.crt"), "{why}");
    assert!(given(&credentials, "ns").is_empty());
    assert!(credentials.take(Step::Applied(good.clone())));
    assert!(!credentials.take(Step::Applied(good)), "nothing is new");
    assert_eq!((credentials.lack("ns", GATEWAY), given(&credentials, "ns").len()), (None, 1));
    for (items, why) in [
        (&[("tls.crt", "no"), ("tls.key", key.as_str())][..], "tls.crt has no such item in PEM"),
        (&[("tls.crt", chain.as_str()), ("tls.key", "secret words")], "tls.key is not a private key in PEM"),
        (&[("tls.crt", chain.as_str())], "tls.key is missing"),
    ] {
        assert!(credentials.take(Step::Applied(secret("gateway", items))));
        let lack = Lack::Unusable { why: why.to_owned(), earlier: true };
        assert_eq!((credentials.lack("ns", GATEWAY), given(&credentials, "ns").len()), (Some(lack), 1));
    }
}

#[test]
fn a_secret_is_of_its_namespace_alone() {
    let [chain, key, _] = issued();
    let mut credentials = Credentials::default();
    credentials.take(Step::Applied(secret("gateway", &[("tls.crt", &chain), ("tls.key", &key)])));
    assert!(given(&credentials, "other").is_empty());
    assert_eq!(credentials.lack("other", GATEWAY), Some(Lack::Missing));
    assert_eq!(credentials.lack("other", "file-root:/ca"), None, "files are the agent's");
    assert!(credentials.take(Step::Listed(Vec::new(), 1)));
    assert!(given(&credentials, "ns").is_empty() && credentials.is_complete());
}
