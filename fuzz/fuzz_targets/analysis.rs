//! Any YAML may be analyzed. It is told what is wrong with it, in the same words each time, and whoever is named is there.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use xds::analysis;

/// Two namespaces with a client and a server, for the objects to be about.
static BASE: LazyLock<Vec<Value>> = LazyLock::new(|| {
    serde_saphyr::from_multiple(include_str!("../../crates/xds/testdata/base.yaml")).expect("the file is YAML")
});

fuzz_target!(|text: &str| {
    let Ok(documents) = serde_saphyr::from_multiple::<Value>(text) else { return };
    let objects: Vec<Value> = BASE.iter().cloned().chain(documents).collect();
    let findings = analysis::analyze(&objects);
    assert_eq!(findings, analysis::analyze(&objects));
    for finding in &findings {
        assert!(!finding.message.is_empty() && !finding.code.is_empty(), "{finding:?}");
        assert!(finding.documentation_url().is_some() == finding.code.starts_with("IST0"), "{finding:?}");
    }
});
