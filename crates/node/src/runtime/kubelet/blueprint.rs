//! From a container in a pod's spec to what the pod process is told to run.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use sha2::{Digest, Sha256};

use super::Kubelet;
use super::environment::{Sources, expand};
use super::field::Facts;
use super::network_files;
use crate::runtime::catalog::Image;
use crate::runtime::container::identity::{self, Identity};
use crate::runtime::container::root::{Mount, RootSpec, Source};
use crate::runtime::container::{Program, Spec, Termination};
use crate::runtime::sandbox::record::Paths;
use crate::runtime::volume::Volumes;

/// Whoever must not be root but does not say who it is runs as this user, as images for such pods commonly do.
const NON_ROOT: u32 = 65532;

/// Why a container is not started, as its waiting state says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: impl std::fmt::Display) -> Refusal {
        Refusal { reason, message: message.to_string() }
    }

    fn config(message: impl std::fmt::Display) -> Refusal {
        Refusal::new("CreateContainerConfigError", message)
    }
}

/// What a pod's containers are built from.
pub(super) struct Blueprint<'a> {
    pub(super) kubelet: &'a Kubelet,
    pub(super) pod: &'a Pod,
    pub(super) directory: &'a Path,
    pub(super) address: Ipv4Addr,
    pub(super) volumes: &'a Volumes,
}

/// A container ready to be started.
pub(super) struct Built {
    pub(super) spec: Spec,
    /// What could not be done as asked for, for an event.
    pub(super) warnings: Vec<String>,
}

impl Blueprint<'_> {
    pub(super) async fn build(&self, container: &Container, attempt: u32) -> Result<Built, Refusal> {
        let image = self.image(container)?;
        let environment = self.environment(container, &image).await?;
        let argv = command(container, &image, &environment);
        if argv.is_empty() {
            return Err(Refusal::new("CreateContainerError", "no command specified"));
        }
        let mut warnings = Vec::new();
        let identity = self.identity(container, &mut warnings)?;
        let paths = Paths::new(self.directory, &container.name, attempt);
        // The mount point's source must exist before the container does.
        let failed = |e: std::io::Error| Refusal::new("CreateContainerError", e);
        paths.create().map_err(failed)?;
        std::fs::File::create(paths.message()).map_err(failed)?;
        world_writable(&paths.message()).map_err(failed)?;
        let root = self.root(container, &image, &environment, &paths)?;
        let directory = container.working_dir.clone().filter(|d| !d.is_empty()).or_else(|| image.working_dir.clone());
        let policy = container.termination_message_policy.as_deref();
        let spec = Spec {
            id: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
            name: container.name.clone(),
            attempt,
            image: container.image.clone().unwrap_or_default(),
            image_id: image_id(&image),
            program: Program { argv, environment, directory: directory.unwrap_or_else(|| "/".to_owned()), identity },
            root,
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
            termination: Termination {
                file: paths.message(),
                fall_back_to_logs: policy == Some("FallbackToLogsOnError"),
            },
        };
        Ok(Built { spec, warnings })
    }

    fn image(&self, container: &Container) -> Result<Image, Refusal> {
        let name = container.image.as_deref().unwrap_or_default();
        let valid = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if name.is_empty() || !name.chars().all(valid) {
            let message = format!("couldn't parse image name {name:?}: invalid reference format");
            return Err(Refusal::new("InvalidImageName", message));
        }
        let catalog = self.kubelet.images.current().map_err(|e| Refusal::new("ErrImagePull", e))?;
        let image = catalog.find(name).cloned().ok_or_else(|| {
            let message = format!(
                "no local program is known for image {name:?}; add one with: isthmus image add '{name}' -- COMMAND"
            );
            Refusal::new("ErrImagePull", message)
        })?;
        match image.missing_program() {
            None => Ok(image),
            Some(program) => {
                let message = format!(
                    "image {name:?} needs the program {program:?}, which this machine does not have; on Debian: apt install {program}"
                );
                Err(Refusal::new("ErrImagePull", message))
            }
        }
    }

    async fn environment(&self, container: &Container, image: &Image) -> Result<BTreeMap<String, String>, Refusal> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let facts = Facts {
            pod: self.pod,
            address: Some(self.address),
            host: self.kubelet.machine.address,
            node: &self.kubelet.machine.name,
        };
        let sources = Sources { client: self.kubelet.client.clone(), namespace, facts };
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        let mut base = image.env.clone();
        base.insert("HOSTNAME".to_owned(), network_files::hostname(self.pod));
        if container.tty == Some(true) {
            base.insert("TERM".to_owned(), "xterm".to_owned());
        }
        base.extend(sources.services(links).await.map_err(Refusal::config)?);
        sources.build(container, base).await.map_err(Refusal::config)
    }

    /// `securityContext`, as far as the user namespace allows.
    fn identity(&self, container: &Container, warnings: &mut Vec<String>) -> Result<Identity, Refusal> {
        let of_pod = self.pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let narrow = |id: i64| u32::try_from(id).map_err(Refusal::config);
        let user = own.run_as_user.or(of_pod.run_as_user).map(narrow).transpose()?;
        let user = check_non_root(container, user, &own, &of_pod)?;
        let group = own.run_as_group.or(of_pod.run_as_group).map(narrow).transpose()?;
        let extra = of_pod.supplemental_groups.into_iter().flatten().chain(of_pod.fs_group);
        let extra: Vec<u32> = extra.map(narrow).collect::<Result<_, _>>()?;
        let kubelet = self.kubelet;
        let mut mapped = |what: &str, id: Option<u32>, map: &identity::IdMap| {
            let fits = id.filter(|id| map.covers(*id));
            if let (Some(id), None) = (id, fits) {
                let name = &container.name;
                warnings.push(format!(
                    "{what} {id} of container {name} is not available without root; the container runs as its pod's root"
                ));
            }
            fits
        };
        let wanted = user;
        let user = mapped("runAsUser", user, &kubelet.users);
        let group = mapped("runAsGroup", group, &kubelet.groups);
        let capabilities = own.capabilities.unwrap_or_default();
        let add = capabilities.add.unwrap_or_default();
        let drop = capabilities.drop.unwrap_or_default();
        let kept = identity::capabilities(&add, &drop).map_err(Refusal::config)?;
        Ok(Identity {
            user,
            emulated: wanted.filter(|_| user.is_none()),
            // Without a group of its own, a user other than root is in root's group, as the runtimes have it.
            group: group.or(user.filter(|user| *user != 0).map(|_| 0)),
            groups: extra.into_iter().filter(|id| kubelet.groups.covers(*id)).collect(),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            capabilities: (own.privileged != Some(true)).then_some(kept),
        })
    }

    fn root(
        &self,
        container: &Container,
        image: &Image,
        environment: &BTreeMap<String, String>,
        paths: &Paths,
    ) -> Result<RootSpec, Refusal> {
        let bind =
            |target: PathBuf, source: PathBuf, read_only| Mount { target, source: Source::Path(source), read_only };
        let mut mounts = Vec::new();
        for name in network_files::NAMES {
            mounts.push(bind(Path::new("/etc").join(name), network_files::path(self.directory, name), false));
        }
        let message = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        mounts.push(bind(message.unwrap_or("/dev/termination-log").into(), paths.message(), false));
        for program in &self.kubelet.config.programs {
            mounts.push(bind(program.clone(), program.clone(), true));
        }
        for directory in &image.writable {
            mounts.push(Mount { target: directory.into(), source: Source::Empty, read_only: false });
        }
        for mount in container.volume_mounts.iter().flatten() {
            let expanded = mount.sub_path_expr.as_deref().map(|text| expand(text, environment));
            let sub_path = expanded.as_deref().or(mount.sub_path.as_deref());
            let source = self.volumes.mount_source(self.pod, &container.name, mount, sub_path);
            let (source, read_only) = source.map_err(Refusal::config)?;
            mounts.push(bind(mount.mount_path.clone().into(), source, read_only));
        }
        // Stable: of two mounts at the same place the later one in the spec is seen.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let security = container.security_context.as_ref();
        Ok(RootSpec {
            staging: self.directory.join("root"),
            hidden: self.kubelet.config.home.clone(),
            executable: self.kubelet.config.executable.clone(),
            scripts: image.programs.iter().map(|(name, command)| (name.clone(), script(command))).collect(),
            read_only: security.and_then(|s| s.read_only_root_filesystem) == Some(true),
            privileged: security.and_then(|s| s.privileged) == Some(true),
            mounts,
        })
    }
}

/// Applies `runAsNonRoot`.
fn check_non_root(
    container: &Container,
    user: Option<u32>,
    own: &SecurityContext,
    of_pod: &PodSecurityContext,
) -> Result<Option<u32>, Refusal> {
    match (own.run_as_non_root.or(of_pod.run_as_non_root), user) {
        (Some(true), Some(0)) => {
            let name = &container.name;
            Err(Refusal::config(format!("container's runAsUser breaks non-root policy (container: {name})")))
        }
        (Some(true), None) => Ok(Some(NON_ROOT)),
        (_, user) => Ok(user),
    }
}

/// The program and its arguments, as Kubernetes combines the image's with the container's.
fn command(container: &Container, image: &Image, environment: &BTreeMap<String, String>) -> Vec<String> {
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, environment)).collect::<Vec<_>>();
    let command = expanded(container.command.as_deref().unwrap_or_default());
    let args = expanded(container.args.as_deref().unwrap_or_default());
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

/// A shell script that runs a command with the script's own arguments after it.
fn script(command: &[String]) -> String {
    let quoted: Vec<String> = command.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.join(" "))
}

/// An image's identity: the digest of its catalog entry.
fn image_id(image: &Image) -> String {
    let text = serde_json::to_vec(image).unwrap_or_default();
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digest}")
}

fn world_writable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_replaces_the_entrypoint_and_args_replace_cmd() {
        let image = Image { cmd: words("cmd"), ..Image::new("x", words("entry point")) };
        let environment = BTreeMap::from([("NAME".to_owned(), "world".to_owned())]);
        let combined = |command: &str, args: &str| {
            let list = |text: &str| Some(words(text)).filter(|list| !list.is_empty());
            let container = Container { command: list(command), args: list(args), ..Container::default() };
            super::command(&container, &image, &environment).join(" ")
        };
        assert_eq!(combined("", ""), "entry point cmd");
        assert_eq!(combined("", "hello $(NAME)"), "entry point hello world");
        assert_eq!(combined("sh -c", ""), "sh -c");
        assert_eq!(combined("sh", "-c $(X)"), "sh -c $(X)");
    }

    #[test]
    fn scripts_pass_their_arguments_on() {
        assert_eq!(script(&words("isthmus it's")), "#!/bin/sh\nexec 'isthmus' 'it'\\''s' \"$@\"\n");
    }
}
