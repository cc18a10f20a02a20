//! Where timm's pretrained weights come from: a local folder, the Hugging Face cache, the hub.

use super::{find, hub};
use crate::{
    error::{Error, Result},
    tensor::safetensors::sha256_of_file,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Told how many bytes of a download are here, and how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Where to look, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// A folder of `<name>.<tag>.safetensors` and `<name>.safetensors` files.
    pub folder: Option<PathBuf>,
    /// The Hugging Face hub's cache, shared with Python.
    pub cache: PathBuf,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// Whether to leave the network alone.
    pub offline: bool,
    /// For endpoints that ask for one.
    pub token: Option<String>,
    /// The pause before a broken download is tried again.
    pub pause: Duration,
}

impl Places {
    /// As the environment says: `RUNNER_WEIGHTS`, and for the hub the variables that `huggingface_hub` reads:
    /// `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Places::from_env`], with the environment given.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let home = || path("HOME").or_else(|| path("USERPROFILE")).unwrap_or_default();
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
        let hugging_face = || path("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let truthy = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Self {
            folder: path("RUNNER_WEIGHTS"),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| hugging_face().join("hub")),
            endpoint: endpoint.trim_end_matches('/').into(),
            offline: get("HF_HUB_OFFLINE").is_some_and(truthy),
            token: get("HF_TOKEN"),
            pause: Duration::from_secs(2),
        }
    }

    /// These places in one line, for a person.
    pub fn describe(&self) -> String {
        let folder =
            self.folder.as_ref().map_or("RUNNER_WEIGHTS is not set".into(), |folder| folder.display().to_string());
        let network = if self.offline { " (not asked: HF_HUB_OFFLINE is set)" } else { "" };
        format!("{folder}, then {}, then {}{network}", self.cache.display(), self.endpoint)
    }

    /// The address of a model's weights on the hub.
    pub fn url(&self, full_name: &str) -> String {
        format!("{}/timm/{full_name}/resolve/main/model.safetensors", self.endpoint)
    }

    /// The hub cache's folder of a model.
    pub fn repository(&self, full_name: &str) -> PathBuf {
        self.cache.join(format!("models--timm--{full_name}"))
    }
}

/// Where the environment says to look, in one line.
pub fn places() -> String {
    Places::from_env().describe()
}

/// The file with the pretrained weights of `resnet18` or `efficientnet_b1.ft_in1k`, downloaded if need be.
///
/// When it cannot be had, the user's error says each place tried, why that failed, and how to get the file.
pub fn fetch(name: &str, places: &Places, progress: Progress) -> Result<PathBuf> {
    let found = find(name)?;
    let full_name = format!("{}.{}", found.entry.name, found.pretrained.tag);
    let mut tried = Vec::new();
    let local = in_folder(places.folder.as_deref(), found.entry.name, &full_name);
    let found = local.or_else(|reason| {
        tried.push(format!("RUNNER_WEIGHTS: {reason}"));
        in_cache(&places.repository(&full_name))
    });
    let found = found.or_else(|reason| {
        tried.push(format!("the Hugging Face cache {}: {reason}", places.cache.display()));
        hub::download(&full_name, places, progress).map_err(|error| error.to_string())
    });
    found.map_err(|reason| {
        tried.push(format!("{}: {reason}", places.url(&full_name)));
        Error::user(advice(&full_name, places, &tried))
    })
}

fn advice(full_name: &str, places: &Places, tried: &[String]) -> String {
    format!(
        "the pretrained weights {full_name} cannot be had:\n  {}\n\
         download {} where there is a network, save it as {full_name}.safetensors in a folder and set RUNNER_WEIGHTS to \
         that folder; or start from scratch: backbone.pretrained = false, or \"if_available\"",
        tried.join("\n  "),
        places.url(full_name),
    )
}

/// The file in the user's own folder, or why not.
fn in_folder(folder: Option<&Path>, name: &str, full_name: &str) -> Result<PathBuf, String> {
    let folder = folder.ok_or("not set")?;
    let files = [full_name, name].map(|name| format!("{name}.safetensors"));
    let paths = files.iter().map(|file| folder.join(file));
    let missing = || format!("{} has neither {} nor {}", folder.display(), files[0], files[1]);
    paths.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

/// The file that the hub cache's `refs/main` leads to, or why not.
fn in_cache(repository: &Path) -> Result<PathBuf, String> {
    let folder = repository.file_name().unwrap_or_default().to_string_lossy();
    let revision = fs::read_to_string(repository.join("refs/main")).map_err(|_| format!("no {folder}"))?;
    let path = repository.join("snapshots").join(revision.trim()).join("model.safetensors");
    let real = fs::canonicalize(&path).map_err(|_| format!("{folder} has no model.safetensors"))?;
    // The hub's cache names large files by their checksum.
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let intact = !hub::is_sha256(&name) || sha256_of_file(&real).is_ok_and(|sha256| sha256 == name);
    if intact { Ok(path) } else { Err(format!("{} is damaged", real.display())) }
}
