//! Downloads from the Hugging Face hub into its cache, in the layout of Python's `huggingface_hub`:
//! `blobs/<etag>`, `snapshots/<commit>/model.safetensors` linked to it, `refs/main` with the commit.

use super::pretrained::{Places, Progress};
use crate::{
    error::{Cause, Context, Error, Result},
    tensor::safetensors::{hex, write_atomically},
};
use sha2::{Digest, Sha256};
use std::{
    fmt::Display,
    fs,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, header},
};

const TRIES: usize = 3;
const REDIRECTS: usize = 10;

/// A failure that another try may mend.
fn passing(reason: impl Display) -> Error {
    Error::new(Cause::Environment, reason)
}

/// Downloads a model's weights into the cache and returns the file there.
///
/// Several processes may do this at once: each writes a file of its own and renames it into place.
pub fn download(full_name: &str, places: &Places, progress: Progress) -> Result<PathBuf> {
    if places.offline {
        return Err(Error::user("not tried, HF_HUB_OFFLINE is set"));
    }
    let blobs = places.repository(full_name).join("blobs");
    fs::create_dir_all(&blobs).map_err(|error| Error::user(format!("cannot make {}: {error}", blobs.display())))?;
    let mut tries = 1;
    loop {
        match try_download(full_name, places, progress) {
            Err(error) if error.cause == Cause::Environment && tries < TRIES => std::thread::sleep(places.pause),
            result => return result,
        }
        tries += 1;
    }
}

fn try_download(full_name: &str, places: &Places, progress: Progress) -> Result<PathBuf> {
    let (response, identity) = request(&places.url(full_name), places)?;
    let repository = places.repository(full_name);
    let blob = repository.join("blobs").join(&identity.etag);
    write_atomically(&blob, |file| receive(response, &identity, &mut BufWriter::new(file), progress))?;
    link(&repository, &blob, &identity.commit)
}

/// What the hub says a file is.
struct Identity {
    /// Names the blob; of a large file it is the sha256 of its content.
    etag: String,
    commit: String,
}

impl Identity {
    /// From the named header and the commit's.
    fn from_headers(headers: &HeaderMap, etag: &str) -> Option<Self> {
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = get(etag)?.trim_start_matches("W/").trim_matches('"').to_lowercase();
        let commit = get("x-repo-commit").unwrap_or("main").to_owned();
        // Both become names of files.
        let harmless = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (harmless(&etag) && harmless(&commit)).then_some(Self { etag, commit })
    }
}

/// Follows redirects to the file itself. The hub describes a large file in its own answer, the storage behind it does not.
fn request(url: &str, places: &Places) -> Result<(Response<Body>, Identity)> {
    let (agent, mut url, mut identity) = (agent(url), url.to_owned(), None);
    for _ in 0..REDIRECTS {
        let mut request = agent.get(&url);
        // The token is for the hub alone, never for where it redirects to.
        if let Some(token) = places.token.as_ref().filter(|_| url.starts_with(&format!("{}/", places.endpoint))) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| refused(&error))?;
        let headers = response.headers();
        identity = identity.or_else(|| Identity::from_headers(headers, "x-linked-etag"));
        match headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
            Some(location) if response.status().is_redirection() => url = absolute(location, &url),
            _ => {
                check_status(response.status().as_u16())?;
                let identity = identity.or_else(|| Identity::from_headers(headers, "etag"));
                let identity = identity.ok_or_else(|| Error::user("the answer has no ETag to check the file by"))?;
                return Ok((response, identity));
            }
        }
    }
    Err(Error::user(format!("more than {REDIRECTS} redirects")))
}

fn agent(url: &str) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .accept_encoding("identity")
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)));
    // A proxy does not know this machine's own names.
    let own = ["http://127.0.0.1", "http://localhost"].iter().any(|host| url.starts_with(host));
    if own { config.proxy(None).build().new_agent() } else { config.build().new_agent() }
}

fn refused(error: &ureq::Error) -> Error {
    let reason = format!("no answer: {error}");
    if matches!(error, ureq::Error::Timeout(_)) { passing(reason) } else { Error::user(reason) }
}

fn check_status(status: u16) -> Result<()> {
    match status {
        200 => Ok(()),
        401 | 403 => Err(Error::user(format!("HTTP {status}: access refused; set HF_TOKEN if a token is needed"))),
        404 => Err(Error::user("HTTP 404: no such file there")),
        429 | 500.. => Err(passing(format!("HTTP {status}"))),
        _ => Err(Error::user(format!("HTTP {status}"))),
    }
}

/// A redirect's target; the hub sends paths without a host too.
fn absolute(location: &str, base: &str) -> String {
    let host_end = base.find("://").and_then(|at| base[at + 3..].find('/').map(|slash| at + 3 + slash));
    match (location.starts_with('/'), host_end) {
        (true, Some(end)) => format!("{}{location}", &base[..end]),
        _ => location.to_owned(),
    }
}

/// Writes the body and checks its checksum.
fn receive(mut response: Response<Body>, identity: &Identity, file: &mut impl Write, progress: Progress) -> Result<()> {
    let total = response.body().content_length();
    let mut reader = response.body_mut().as_reader();
    let (mut hasher, mut buffer, mut done) = (Sha256::new(), vec![0; 1 << 18], 0);
    progress(0, total);
    loop {
        let count =
            reader.read(&mut buffer).map_err(|error| passing(format!("broke off after {done} bytes: {error}")))?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        file.write_all(chunk)?;
        hasher.update(chunk);
        done += count as u64;
        progress(done, total);
    }
    file.flush()?;
    let sha256 = hex(&hasher.finalize());
    match is_sha256(&identity.etag) && sha256 != identity.etag {
        true => Err(passing(format!("wrong content: its sha256 is {sha256}, announced was {}", identity.etag))),
        false => Ok(()),
    }
}

/// Whether a name is a sha256 in hexadecimal.
pub fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Makes a blob the repository's `main`.
fn link(repository: &Path, blob: &Path, commit: &str) -> Result<PathBuf> {
    let snapshot = repository.join("snapshots").join(commit);
    let path = snapshot.join("model.safetensors");
    fs::create_dir_all(&snapshot).context(|| format!("cannot make {}", snapshot.display()))?;
    link_file(blob, &path).context(|| format!("cannot write {}", path.display()))?;
    write_atomically(&repository.join("refs/main"), |file| Ok(file.write_all(commit.as_bytes())?))?;
    Ok(path)
}

/// A relative link, made under another name first so that it replaces an old one at once.
#[cfg(unix)]
fn link_file(blob: &Path, path: &Path) -> std::io::Result<()> {
    let target = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
    let make = |unfinished: &Path| std::os::unix::fs::symlink(&target, unfinished);
    let link = tempfile::Builder::new().prefix(".unfinished-").make_in(path.parent().unwrap_or(path), make)?;
    link.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(not(unix))]
fn link_file(blob: &Path, path: &Path) -> std::io::Result<()> {
    fs::copy(blob, path).map(|_| ())
}
