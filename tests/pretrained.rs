//! timm's pretrained weights: where they are looked for, and downloads from a stand-in hub on loopback.

use runner::{
    backbone::{
        Model, Options, build, load_pretrained,
        pretrained::{Places, fetch},
    },
    error::{Cause, Result},
    tensor::{
        Device, Key,
        safetensors::{Array, hex, write},
        weights,
    },
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILE: &str = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors";

/// Answers each request by its path with raw bytes of HTTP, on a port of its own, and remembers what it was asked.
struct Hub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { endpoint, requests }
    }

    /// A hub whose every answer is a file of this content under this checksum.
    fn of(content: Vec<u8>, etag: String) -> Self {
        Self::new(move |_, _| ok(&content, &etag, content.len()))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, answer: &dyn Fn(&str, usize) -> Vec<u8>) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.len()
    };
    let _ = stream.write_all(&answer(&path, number));
}

fn ok(content: &[u8], etag: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    [head.as_bytes(), content].concat()
}

fn status(line: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn places(cache: &Path, endpoint: &str) -> Places {
    Places {
        folder: None,
        cache: cache.join("hub"),
        endpoint: endpoint.into(),
        offline: false,
        token: None,
        pause: Duration::ZERO,
    }
}

fn get(places: &Places) -> Result<PathBuf> {
    fetch("resnet18", places, &mut |_, _| {})
}

/// Everything below a folder, without what is fixed by the layout.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.to_string_lossy().contains("unfinished"));
    here.chain(folders.iter().flat_map(|folder| unfinished(folder))).collect()
}

#[test]
fn a_download_lands_in_the_hub_cache_and_is_not_repeated() {
    let folder = TempDir::new().unwrap();
    let content = b"weights".repeat(100_000);
    let hub = Hub::of(content.clone(), sha256(&content));
    let places = places(folder.path(), &hub.endpoint);
    let mut told = Vec::new();
    let path = fetch("resnet18", &places, &mut |done, total| told.push((done, total))).unwrap();
    let repository = folder.path().join("hub/models--timm--resnet18.a1_in1k");
    assert_eq!(path, repository.join(format!("snapshots/{COMMIT}/model.safetensors")));
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read(repository.join("blobs").join(sha256(&content))).unwrap(), content);
    assert_eq!(told.first(), Some(&(0, Some(700_000))));
    assert_eq!(told.last(), Some(&(700_000, Some(700_000))));
    assert_eq!(get(&Places { offline: true, ..places }).unwrap(), path);
    assert_eq!(hub.requests().len(), 1);
    assert!(hub.requests()[0].starts_with(&format!("GET {FILE} ")));
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn redirects_are_followed_and_the_token_stays_with_the_hub() {
    let folder = TempDir::new().unwrap();
    let content = b"weights".to_vec();
    let storage = {
        let content = content.clone();
        Hub::new(move |_, _| {
            let head = "HTTP/1.1 200 OK\r\nETag: \"of-the-storage\"\r\nContent-Length: 7\r\nConnection: close\r\n\r\n";
            [head.as_bytes(), &content].concat()
        })
    };
    let (target, etag) = (format!("{}/bucket/blob?key=1", storage.endpoint), sha256(&content));
    let hub = Hub::new(move |path, _| match path {
        FILE => status("307 Temporary Redirect", "Location: /moved/model.safetensors\r\n"),
        "/moved/model.safetensors" => status(
            "302 Found",
            &format!("Location: {target}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n"),
        ),
        _ => status("404 Not Found", ""),
    });
    let path = get(&Places { token: Some("secret".into()), ..places(folder.path(), &hub.endpoint) }).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert!(hub.requests().iter().all(|request| request.to_lowercase().contains("authorization: bearer secret")));
    assert_eq!(hub.requests().len(), 2);
    assert!(!storage.requests()[0].contains("secret"));
    assert!(storage.requests()[0].starts_with("GET /bucket/blob?key=1 "));
}

#[test]
fn wrong_content_is_refused_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::of(b"not the weights".to_vec(), sha256(b"weights"));
    let error = get(&places(folder.path(), &hub.endpoint)).unwrap_err();
    assert_eq!(error.cause, Cause::User);
    assert!(error.to_string().contains("wrong content"), "{error}");
    assert_eq!(hub.requests().len(), 3);
    assert!(unfinished(folder.path()).is_empty());
    assert!(get(&Places { offline: true, ..places(folder.path(), &hub.endpoint) }).is_err());
}

#[test]
fn a_download_that_breaks_off_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let content = b"weights".repeat(1000);
    let (whole, etag) = (content.clone(), sha256(&content));
    let hub = Hub::new(move |_, number| match number {
        1 => ok(&whole[..1234], &etag, whole.len()),
        2 => status("503 Service Unavailable", ""),
        _ => ok(&whole, &etag, whole.len()),
    });
    let path = get(&places(folder.path(), &hub.endpoint)).unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(hub.requests().len(), 3);
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn a_body_that_always_breaks_off_is_an_error_even_without_a_checksum() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::new(|_, _| ok(b"half", "1-2-3", 8));
    let error = get(&places(folder.path(), &hub.endpoint)).unwrap_err().to_string();
    assert!(error.contains("broke off after 4 bytes"), "{error}");
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn the_error_says_each_place_and_how_to_get_the_file() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::new(|_, _| status("404 Not Found", ""));
    let places = Places { folder: Some(folder.path().join("mine")), ..places(folder.path(), &hub.endpoint) };
    let error = get(&places).unwrap_err();
    assert_eq!(error.cause, Cause::User);
    let text = error.to_string();
    for part in [
        "resnet18.a1_in1k cannot be had",
        "mine has neither resnet18.a1_in1k.safetensors nor resnet18.safetensors",
        "no models--timm--resnet18.a1_in1k",
        &format!("{}{FILE}: HTTP 404", hub.endpoint),
        "save it as resnet18.a1_in1k.safetensors",
        "if_available",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert_eq!(hub.requests().len(), 1, "a missing file is not asked for again");
}

#[test]
fn offline_asks_nobody_and_refusals_name_the_token() {
    let folder = TempDir::new().unwrap();
    let hub = Hub::new(|_, _| status("401 Unauthorized", ""));
    let places = places(folder.path(), &hub.endpoint);
    let text = get(&Places { offline: true, ..places.clone() }).unwrap_err().to_string();
    assert!(text.contains("HF_HUB_OFFLINE"), "{text}");
    assert!(hub.requests().is_empty());
    assert!(get(&places).unwrap_err().to_string().contains("HF_TOKEN"));
}

#[test]
fn nobody_listening_is_a_users_error() {
    let folder = TempDir::new().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = get(&places(folder.path(), &format!("http://{closed}"))).unwrap_err();
    assert_eq!(error.cause, Cause::User);
    assert!(error.to_string().contains("no answer"), "{error}");
}

#[test]
fn a_damaged_file_in_the_cache_is_downloaded_again() {
    let folder = TempDir::new().unwrap();
    let content = b"weights".to_vec();
    let hub = Hub::of(content.clone(), sha256(&content));
    let places = places(folder.path(), &hub.endpoint);
    let path = get(&places).unwrap();
    fs::write(&path, b"weightz").unwrap();
    assert_eq!(fs::read(get(&places).unwrap()).unwrap(), content);
    assert_eq!(hub.requests().len(), 2);
}

#[test]
fn downloads_at_the_same_time_do_not_disturb_each_other() {
    let folder = TempDir::new().unwrap();
    let content = b"weights".repeat(200_000);
    let hub = Hub::of(content.clone(), sha256(&content));
    let places = places(folder.path(), &hub.endpoint);
    thread::scope(|scope| {
        let both: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&places).unwrap())).collect();
        for path in both.into_iter().map(|handle| handle.join().unwrap()) {
            assert_eq!(fs::read(path).unwrap(), content);
        }
    });
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn the_users_folder_comes_first_and_the_tagged_file_in_it() {
    let folder = TempDir::new().unwrap();
    let mine = folder.path().join("mine");
    fs::create_dir(&mine).unwrap();
    let hub = Hub::new(|_, _| status("404 Not Found", ""));
    let places = Places { folder: Some(mine.clone()), ..places(folder.path(), &hub.endpoint) };
    for file in ["resnet18.safetensors", "resnet18.a1_in1k.safetensors"] {
        fs::write(mine.join(file), b"").unwrap();
        assert_eq!(get(&places).unwrap(), mine.join(file));
    }
    assert!(fetch("resnet18.tv_in1k", &places, &mut |_, _| {}).unwrap().ends_with("resnet18.safetensors"));
    assert!(hub.requests().is_empty());
}

#[test]
fn pretrained_weights_load_with_a_fresh_classifier() {
    let folder = TempDir::new().unwrap();
    let model =
        |classes, seed| -> Model { build("resnet18", &Options::new(classes), &Device::Cpu, Key::new(seed)).unwrap() };
    let (theirs, ours) = (model(10, 1), model(2, 2));
    let arrays: Vec<Array> = weights::arrays(&theirs.params).unwrap();
    write(&folder.path().join("resnet18.a1_in1k.safetensors"), &arrays, &BTreeMap::new()).unwrap();
    let places = Places { folder: Some(folder.path().into()), ..places(folder.path(), "http://127.0.0.1:9") };
    let (paths, fresh) = load_pretrained(&ours, &places, &mut |_, _| {}).unwrap();
    assert!(paths.len() == 1 && paths[0].ends_with("resnet18.a1_in1k.safetensors"));
    assert_eq!(fresh, ["fc.weight", "fc.bias"]);
    let value = |model: &Model| model.params.get("conv1.weight").unwrap().var().flatten_all().unwrap();
    assert_eq!(value(&ours).to_vec1::<f32>().unwrap(), value(&theirs).to_vec1::<f32>().unwrap());
}

#[test]
fn places_follow_the_environment_of_huggingface_hub() {
    let read = |set: &[(&str, &str)]| {
        let set: BTreeMap<String, String> = set.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Places::from_variables(|name| set.get(name).cloned())
    };
    let plain = read(&[("HOME", "/home/me")]);
    assert_eq!(plain.cache, Path::new("/home/me/.cache/huggingface/hub"));
    assert_eq!(plain.url("resnet18.a1_in1k"), format!("https://huggingface.co{FILE}"));
    assert!(!plain.offline && plain.token.is_none() && plain.folder.is_none());
    assert_eq!(read(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
    assert_eq!(read(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]).cache, Path::new("/h/hub"));
    assert_eq!(read(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).cache, Path::new("/c"));
    let full = read(&[
        ("HF_ENDPOINT", "http://mirror/"),
        ("HF_HUB_OFFLINE", "yes"),
        ("HF_TOKEN", "t"),
        ("RUNNER_WEIGHTS", "/w"),
    ]);
    assert_eq!((full.endpoint.as_str(), full.offline), ("http://mirror", true));
    assert_eq!((full.token.as_deref(), full.folder.as_deref()), (Some("t"), Some(Path::new("/w"))));
    assert!(!read(&[("HF_HUB_OFFLINE", "0")]).offline);
}
