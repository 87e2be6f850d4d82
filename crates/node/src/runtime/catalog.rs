//! Images and the local commands they stand for.

mod pattern;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::pattern::Reference;

const BUILTIN: &str = include_str!("catalog/builtin.yaml");
const FILE: &str = "images.yaml";

/// Why a catalog could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file cannot be read or written.
    #[error("{file}: {cause}", file = file.display())]
    File {
        /// The catalog's file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not a catalog; the cause names line and field.
    #[error("{file}: {cause}", file = file.display())]
    Syntax {
        /// The catalog's file.
        file: PathBuf,
        /// What is wrong, and where.
        cause: String,
    },
    /// An entry without a pattern or without a command.
    #[error("image {pattern:?}: {why}")]
    Entry {
        /// The entry's pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no such entry among the user's own.
    #[error(
        "there is no image {0:?} in {FILE}; the built-in ones cannot be removed, but an entry of your own comes first"
    )]
    NotFound(String),
}

/// What an image is replaced by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// A glob over the image's name without tag and digest. A registry before the name is ignored unless the pattern has one.
    #[serde(rename = "match")]
    pub pattern: String,
    /// A glob over the tag; an image without a tag has `latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Replaced by a container's `command`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Replaced by a container's `args`, and dropped when it has a `command`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment variables that the container may override.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where the command runs; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Programs that the image has and the host has not, and the commands that stand for them; the arguments are passed on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, Vec<String>>,
    /// Directories that are empty and writable in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// Programs that the host must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

impl Image {
    /// An image that stands for a command, which a container's `args` are appended to.
    pub fn new(pattern: impl Into<String>, command: Vec<String>) -> Image {
        Image {
            pattern: pattern.into(),
            tag: None,
            entrypoint: command,
            cmd: Vec::new(),
            env: BTreeMap::new(),
            working_dir: None,
            programs: BTreeMap::new(),
            writable: Vec::new(),
            requires: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), CatalogError> {
        let wrong = |why| Err(CatalogError::Entry { pattern: self.pattern.clone(), why });
        if self.pattern.is_empty() || self.pattern.contains(char::is_whitespace) {
            return wrong("a pattern is a name, perhaps with * and ?, without spaces");
        }
        if self.entrypoint.is_empty() && self.cmd.is_empty() {
            return wrong("an entrypoint or a cmd is needed");
        }
        let absolute = |path: &String| Path::new(path).is_absolute();
        if !self.writable.iter().chain(&self.working_dir).all(absolute) {
            return wrong("writable and workingDir take absolute paths");
        }
        if self.programs.iter().any(|(name, command)| name.contains('/') || name.is_empty() || command.is_empty()) {
            return wrong("programs maps bare names to commands");
        }
        Ok(())
    }

    /// The first program that this image needs and the host lacks.
    pub(crate) fn missing_program(&self) -> Option<&str> {
        let directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let missing = |name: &&String| !directories.iter().any(|d| Path::new(d).join(name).exists());
        self.requires.iter().find(missing).map(String::as_str)
    }
}

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Part of the program.
    Builtin,
    /// From `images.yaml` in the federation's home.
    User,
}

/// Image patterns and the local commands they stand for: the built-in ones and those of `home/images.yaml`.
#[derive(Debug, Clone)]
pub struct Catalog {
    file: PathBuf,
    own: Vec<Image>,
    builtin: Vec<Image>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    images: Vec<Image>,
}

impl Catalog {
    /// Reads the catalog of a federation. A missing file is an empty one.
    pub fn load(home: &Path) -> Result<Catalog, CatalogError> {
        let file = home.join(FILE);
        let own = match std::fs::read_to_string(&file) {
            Ok(text) if text.trim().is_empty() => Vec::new(),
            Ok(text) => parse(&text, &file)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(CatalogError::File { file, cause }),
        };
        let builtin = parse(BUILTIN, Path::new("builtin.yaml"))?;
        Ok(Catalog { file, own, builtin })
    }

    /// Every entry, in the order in which they are asked.
    pub fn entries(&self) -> impl Iterator<Item = (&Image, Origin)> {
        let own = self.own.iter().map(|image| (image, Origin::User));
        own.chain(self.builtin.iter().map(|image| (image, Origin::Builtin)))
    }

    /// The entry for an image reference.
    pub(crate) fn find(&self, reference: &str) -> Option<&Image> {
        let reference = Reference::parse(reference);
        let matches = |image: &Image| reference.matches(&image.pattern, image.tag.as_deref());
        self.entries().map(|(image, _)| image).find(|image| matches(image))
    }

    /// Adds an entry, or replaces the user's entry of the same pattern and tag. It comes before all others.
    pub fn add(&mut self, image: Image) -> Result<(), CatalogError> {
        image.check()?;
        self.own.retain(|other| (&other.pattern, &other.tag) != (&image.pattern, &image.tag));
        self.own.insert(0, image);
        Ok(())
    }

    /// Removes the user's entries of a pattern.
    pub fn remove(&mut self, pattern: &str) -> Result<(), CatalogError> {
        let before = self.own.len();
        self.own.retain(|image| image.pattern != pattern);
        if self.own.len() == before { Err(CatalogError::NotFound(pattern.to_owned())) } else { Ok(()) }
    }

    /// Writes the user's entries; readers see the old file or the new one.
    pub fn save(&self) -> Result<(), CatalogError> {
        let document = Document { images: self.own.clone() };
        let failed = |cause| CatalogError::File { file: self.file.clone(), cause };
        let text = serde_saphyr::to_string(&document).map_err(|e| failed(std::io::Error::other(e)))?;
        let new = self.file.with_extension("yaml.new");
        std::fs::write(&new, text).map_err(failed)?;
        std::fs::rename(&new, &self.file).map_err(failed)
    }
}

fn parse(text: &str, file: &Path) -> Result<Vec<Image>, CatalogError> {
    let syntax = |cause: String| CatalogError::Syntax { file: file.to_owned(), cause };
    let document: Document = serde_saphyr::from_str(text).map_err(|e| syntax(e.without_snippet().to_string()))?;
    for image in &document.images {
        image.check().map_err(|e| syntax(e.to_string()))?;
    }
    Ok(document.images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> PathBuf {
        let home = std::env::temp_dir().join(format!("isthmus-catalog-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        home
    }

    #[test]
    fn the_built_in_images_are_found_with_and_without_registry_and_tag() {
        let catalog = Catalog::load(Path::new("/nonexistent")).unwrap();
        for image in [
            "istio/tcp-echo-server:1.3",
            "docker.io/istio/tcp-echo-server:1.3",
            "docker.io/library/busybox@sha256:00",
            "localhost:5000/curlimages/curl:8.1",
            "registry.k8s.io/pause:3.9",
            "docker.io/istio/examples-helloworld-v2:1.0",
            "nginx",
            "docker.io/istio/proxyv2:1.27.1",
            "gcr.io/istio-release/proxyv2:1.30.0-distroless",
            "proxyv2",
        ] {
            assert!(catalog.find(image).is_some(), "{image}");
        }
        assert!(catalog.find("example/busybox").is_none() && catalog.find("unknown").is_none());
        let httpbin = catalog.find("kong/httpbin").unwrap();
        assert_eq!(httpbin.programs["gunicorn"], ["isthmus", "sample", "httpbin", "--gunicorn"]);
    }

    #[test]
    fn entries_are_added_saved_and_removed() {
        let home = home();
        let mut catalog = Catalog::load(&home).unwrap();
        catalog.add(Image::new("busybox", vec!["my-shell".to_owned()])).unwrap();
        catalog.save().unwrap();
        let mut catalog = Catalog::load(&home).unwrap();
        assert_eq!(catalog.find("busybox").unwrap().entrypoint, ["my-shell"]);
        assert_eq!(catalog.entries().next().unwrap().1, Origin::User);
        catalog.remove("busybox").unwrap();
        assert_eq!(catalog.find("busybox").unwrap().cmd, ["sh"]);
        assert!(catalog.remove("busybox").is_err());
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_broken_file_is_told_by_line_and_field() {
        let home = home();
        std::fs::write(home.join(FILE), "images:\n- match: a\n  entripoint: [x]\n").unwrap();
        let error = Catalog::load(&home).unwrap_err().to_string();
        assert!(error.contains("entripoint") && error.contains("line 3"), "{error}");
        std::fs::write(home.join(FILE), "images:\n- match: a\n").unwrap();
        let error = Catalog::load(&home).unwrap_err().to_string();
        assert!(error.contains("an entrypoint or a cmd is needed"), "{error}");
        std::fs::remove_dir_all(home).unwrap();
    }
}
