//! A shell in a namespace of its own.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::wait::look_for;
use crate::{Federation, Shell};

static OPENED: AtomicUsize = AtomicUsize::new(0);

/// A shell where `kubectl` works in one cluster and one namespace, both its own. Files that a test writes are in the
/// directory it runs in. The namespace is deleted when the session ends.
pub struct Session<'a> {
    /// The federation it belongs to.
    pub federation: &'a Federation,
    /// Its namespace.
    pub namespace: String,
    shell: Shell,
}

impl<'a> Session<'a> {
    #[track_caller]
    pub(crate) fn open(federation: &'a Federation, cluster: &str) -> Session<'a> {
        let namespace = format!("test-{}", OPENED.fetch_add(1, Ordering::Relaxed));
        let own = kubeconfig(federation, cluster, &namespace);
        let line = format!("mkdir {namespace} && cat > {namespace}/kubeconfig");
        federation.shell().sh_with_input(&line, own.as_bytes()).ok();
        let directory = federation.shell().directory.join(&namespace);
        let mut shell = federation.shell().with("KUBECONFIG", directory.join("kubeconfig"));
        shell.directory = directory;
        shell.sh(&format!("kubectl create namespace {namespace}")).ok();
        Session { federation, namespace, shell }
    }

    /// Writes a file into the session's directory; gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let done = self.shell.sh_with_input(&format!("cat > '{name}'"), text.as_bytes());
        done.ok();
        self.shell.directory.join(name)
    }

    /// `kubectl apply -f -` of `manifest`.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.shell.sh_with_input("kubectl apply -f -", manifest.as_bytes()).ok()
    }

    /// Applies a file of the repository's `samples/`.
    #[track_caller]
    pub fn sample(&self, name: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
        let manifest = std::fs::read_to_string(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        self.apply(&manifest)
    }

    /// Runs a command line until it succeeds and prints `expected`.
    #[track_caller]
    pub fn until_prints(&self, line: &str, expected: &str) {
        let mut last = String::new();
        let found = look_for(Duration::from_secs(60), || {
            let done = self.shell.sh(line);
            last = done.transcript();
            (done.code == 0 && done.stdout() == expected).then_some(())
        });
        assert!(found.is_some(), "waited in vain for {expected:?}; at last:\n{last}");
    }
}

/// The federation's kubeconfig, with a cluster and a namespace chosen in it.
fn kubeconfig(federation: &Federation, cluster: &str, namespace: &str) -> String {
    let text = std::fs::read_to_string(federation.kubeconfig()).expect("the federation has written its kubeconfig");
    let mut config: Value = serde_json::from_str(&text).expect("a kubeconfig is JSON");
    config["current-context"] = cluster.into();
    let contexts = config["contexts"].as_array_mut().expect("a kubeconfig has contexts");
    let chosen = contexts.iter_mut().find(|context| context["name"] == cluster);
    chosen.expect("the cluster has a context")["context"]["namespace"] = namespace.into();
    config.to_string()
}

impl Deref for Session<'_> {
    type Target = Shell;
    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let done = self.shell.sh(&format!("kubectl delete namespace {} --wait=false", self.namespace));
        if done.code != 0 && !std::thread::panicking() {
            panic!("{}", done.transcript());
        }
    }
}
