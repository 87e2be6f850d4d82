//! A pod's volumes: directories under the pod's own, filled from objects and kept up to date.

mod payload;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod, Volume, VolumeMount};

pub(crate) use self::source::Sources;
use self::source::Token;
use crate::runtime::kubelet::field::milli;
use crate::runtime::sandbox::Sandbox;
use crate::runtime::sandbox::protocol::Request;

/// Why a volume cannot be mounted, worded as kubelet words it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    SetUp { volume: String, why: String },
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {why}")]
    SubPath { volume: String, container: String, why: String },
    #[error("container {container:?} mounts volume {volume:?}, which the pod does not have")]
    Unknown { volume: String, container: String },
}

/// The volumes of one pod.
pub(crate) struct Volumes {
    directory: PathBuf,
    /// Digests of what was written last, by volume.
    written: BTreeMap<String, [u8; 32]>,
    /// Service account tokens, by volume and path.
    tokens: BTreeMap<(String, String), Token>,
}

/// Objects of the pod's namespace that its volumes and environment are made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dependency {
    ConfigMap(String),
    Secret(String),
}

/// Everything whose change concerns a pod.
pub(crate) fn dependencies(pod: &Pod) -> BTreeSet<Dependency> {
    let mut found = BTreeSet::new();
    let Some(spec) = &pod.spec else { return found };
    for volume in spec.volumes.iter().flatten() {
        found.extend(volume.config_map.iter().map(|c| Dependency::ConfigMap(c.name.clone())));
        found.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()).map(Dependency::Secret));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.extend(source.config_map.iter().map(|c| Dependency::ConfigMap(c.name.clone())));
            found.extend(source.secret.iter().map(|s| Dependency::Secret(s.name.clone())));
        }
    }
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        for source in container.env_from.iter().flatten() {
            found.extend(source.config_map_ref.iter().map(|c| Dependency::ConfigMap(c.name.clone())));
            found.extend(source.secret_ref.iter().map(|s| Dependency::Secret(s.name.clone())));
        }
        for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            found.extend(from.config_map_key_ref.iter().map(|c| Dependency::ConfigMap(c.name.clone())));
            found.extend(from.secret_key_ref.iter().map(|s| Dependency::Secret(s.name.clone())));
        }
    }
    found
}

impl Volumes {
    /// `pod` is the pod's directory.
    pub(crate) fn new(pod: &Path) -> Volumes {
        Volumes { directory: pod.join("volumes"), written: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// When a token must be replaced next.
    pub(crate) fn next_refresh(&self) -> Option<Timestamp> {
        self.tokens.values().map(|token| token.refresh_at).min()
    }

    /// Makes every volume, or brings it up to date. The first failure is returned after all have been tried.
    pub(crate) async fn prepare(&mut self, sources: &Sources<'_>, sandbox: &Sandbox) -> Result<(), VolumeError> {
        let volumes = sources.facts.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mut result = Ok(());
        for volume in volumes {
            let done = self.prepare_one(volume, sources, sandbox).await;
            let named = |why| VolumeError::SetUp { volume: volume.name.clone(), why };
            result = result.and(done.map_err(named));
        }
        result
    }

    async fn prepare_one(&mut self, volume: &Volume, sources: &Sources<'_>, sandbox: &Sandbox) -> Result<(), String> {
        let directory = self.directory.join(&volume.name);
        if let Some(host) = &volume.host_path {
            return check_host_path(host);
        }
        if let Some(empty) = &volume.empty_dir {
            make_empty(&directory, sources.group).map_err(|e| e.to_string())?;
            if empty.medium.as_deref() != Some("Memory") {
                return Ok(());
            }
            let size = empty.size_limit.as_ref().map(|q| milli(&q.0)).transpose()?;
            let size = size.and_then(|milli| u64::try_from(milli / 1000).ok());
            return sandbox.request(Request::Tmpfs { directory, size }).await.map_err(|e| e.message);
        }
        let payload = sources.payload(volume, &mut self.tokens).await?;
        let digest = payload.digest();
        if self.written.get(&volume.name) != Some(&digest) {
            payload.write(&directory, sources.group).map_err(|e| e.to_string())?;
            self.written.insert(volume.name.clone(), digest);
        }
        Ok(())
    }

    /// What is bound to a container's mount point, and whether read-only. `sub_path` is already expanded.
    pub(crate) fn mount_source(
        &self,
        pod: &Pod,
        container: &str,
        mount: &VolumeMount,
        sub_path: Option<&str>,
    ) -> Result<(PathBuf, bool), VolumeError> {
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let unknown = || VolumeError::Unknown { volume: mount.name.clone(), container: container.to_owned() };
        let volume = volumes.find(|v| v.name == mount.name).ok_or_else(unknown)?;
        let root = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.directory.join(&volume.name),
        };
        let generated = volume.host_path.is_none() && volume.empty_dir.is_none();
        let read_only = mount.read_only == Some(true) || generated;
        let Some(sub_path) = sub_path.filter(|path| !path.is_empty()) else { return Ok((root, read_only)) };
        let source = sub_directory(&root, sub_path).map_err(|why| VolumeError::SubPath {
            volume: mount.name.clone(),
            container: container.to_owned(),
            why,
        })?;
        Ok((source, read_only))
    }
}

/// The place of a `subPath`, made as a directory when nothing is there. It must not lead out of its volume.
fn sub_directory(root: &Path, sub_path: &str) -> Result<PathBuf, String> {
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if !Path::new(sub_path).components().all(inside) {
        return Err(format!("{sub_path:?} must be a relative path without '..'"));
    }
    let path = root.join(sub_path);
    let root = root.canonicalize().map_err(|e| e.to_string())?;
    if !path.exists() {
        make_like(&root, sub_path).map_err(|e| e.to_string())?;
    }
    let resolved = path.canonicalize().map_err(|e| e.to_string())?;
    if resolved.starts_with(&root) { Ok(resolved) } else { Err(format!("{sub_path:?} leads out of the volume")) }
}

/// Makes directories that may be used as their volume's own may.
fn make_like(root: &Path, sub_path: &str) -> io::Result<()> {
    let volume = std::fs::metadata(root)?;
    let mut directory = root.to_owned();
    for name in Path::new(sub_path).components() {
        directory.push(name);
        if !directory.exists() {
            std::fs::create_dir(&directory)?;
            std::os::unix::fs::chown(&directory, None, Some(volume.gid()))?;
            std::fs::set_permissions(&directory, volume.permissions())?;
        }
    }
    Ok(())
}

fn make_empty(directory: &Path, group: Option<u32>) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    payload::give_to_group(directory, group)?;
    // With the bit that makes new files the group's.
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(directory, PermissionsExt::from_mode(mode))
}

fn check_host_path(host: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&host.path);
    let kind = host.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => std::fs::create_dir_all(path).map_err(|e| e.to_string())?,
        "FileOrCreate" => {
            let mut options = std::fs::File::options();
            options.create(true).append(true).open(path).map_err(|e| e.to_string())?;
        }
        _ => {}
    }
    let found = std::fs::metadata(path).map(|found| found.file_type());
    let (fits, what) = match kind {
        "" => (found.is_ok(), "does not exist"),
        "Directory" | "DirectoryOrCreate" => (found.is_ok_and(|f| f.is_dir()), "is not a directory"),
        "File" | "FileOrCreate" => (found.is_ok_and(|f| f.is_file()), "is not a file"),
        "Socket" => (found.is_ok_and(|f| f.is_socket()), "is not a socket file"),
        "CharDevice" => (found.is_ok_and(|f| f.is_char_device()), "is not a character device"),
        "BlockDevice" => (found.is_ok_and(|f| f.is_block_device()), "is not a block device"),
        _ => (false, "has a type that is not known"),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} {what}", host.path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let root = std::env::temp_dir().join(format!("isthmus-volume-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(root.join("volume")).unwrap();
        std::os::unix::fs::symlink("..", root.join("volume/out")).unwrap();
        let sub = |path: &str| sub_directory(&root.join("volume"), path);
        assert!(sub("a/b").unwrap().is_dir());
        assert!(sub("../x").is_err() && sub("/etc").is_err() && sub("out").is_err());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_objects_that_a_pod_depends_on_are_found() {
        let pod = serde_json::json!({ "spec": {
            "containers": [{ "name": "a", "envFrom": [{ "configMapRef": { "name": "env" } }],
                "env": [{ "name": "K", "valueFrom": { "secretKeyRef": { "name": "key", "key": "k" } } }] }],
            "volumes": [{ "name": "v", "projected": { "sources": [{ "secret": { "name": "tls" } }] } }],
        }});
        let found = dependencies(&serde_json::from_value(pod).unwrap());
        let expected = [
            Dependency::ConfigMap("env".to_owned()),
            Dependency::Secret("key".to_owned()),
            Dependency::Secret("tls".to_owned()),
        ];
        assert_eq!(found, BTreeSet::from(expected));
    }
}
