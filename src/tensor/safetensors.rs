//! safetensors files: named arrays and a little text, written atomically, read with suspicion.
//!
//! A plain name (`layer1.0.conv1.weight`) is a parameter under timm's name. A name with a colon (`ema:fc.weight`) belongs
//! to the section in front of the colon, so that a checkpoint can hold more than weights and still be loaded as weights.

use crate::error::{Context, Error, Result};
use ::safetensors::tensor::{Dtype, Metadata, SafeTensors};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// The metadata key of the checksum of everything else in the file.
const CHECKSUM: &str = "runner.sha256";
/// What stands in the checksum's place while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One array to save.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Values<'a>,
}

/// The numbers of an array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    F32(Cow<'a, [f32]>),
    I64(Cow<'a, [i64]>),
}

impl<'a> Array<'a> {
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { name: name.into(), shape: shape.into(), values: Values::F32(values.into()) }
    }

    /// A copy of a tensor: I64 as it is, anything else as f32.
    pub fn of_tensor(name: impl Into<String>, tensor: &Tensor) -> Result<Array<'static>> {
        let flat = tensor.detach().flatten_all()?;
        let values = match tensor.dtype() {
            DType::I64 => Values::I64(flat.to_vec1()?.into()),
            _ => Values::F32(flat.to_dtype(DType::F32)?.to_vec1()?.into()),
        };
        Ok(Array { name: name.into(), shape: tensor.dims().to_vec(), values })
    }

    fn dtype(&self) -> &'static str {
        match self.values {
            Values::F32(_) => "F32",
            Values::I64(_) => "I64",
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::F32(values) => little_endian(values, f32::to_le_bytes),
            Values::I64(values) => little_endian(values, i64::to_le_bytes),
        }
    }

    fn size(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val(&values[..]),
            Values::I64(values) => size_of_val(&values[..]),
        }
    }
}

fn little_endian<T: Copy, const N: usize>(values: &[T], encode: fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (chunk, value) in bytes.chunks_exact_mut(N).zip(values) {
        chunk.copy_from_slice(&encode(*value));
    }
    bytes
}

/// Writes a file, whole or not at all, with a checksum in its metadata. Equal arguments give equal bytes.
pub fn write(path: &Path, arrays: &[Array], metadata: &BTreeMap<String, String>) -> Result<()> {
    // Eight-byte numbers first, so that every array is aligned.
    let (long, short): (Vec<&Array>, Vec<&Array>) = arrays.iter().partition(|array| array.dtype() == "I64");
    let ordered = [long, short].concat();
    let header = header(&ordered, metadata)?;
    let mut hasher = Sha256::new_with_prefix(&header);
    ordered.iter().for_each(|array| hasher.update(array.bytes()));
    let header = header.replacen(BLANK, &hex(&hasher.finalize()), 1);
    write_atomically(path, |file| {
        let mut file = BufWriter::new(file);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for array in &ordered {
            file.write_all(&array.bytes())?;
        }
        Ok(file.flush()?)
    })
}

/// The JSON in front of the numbers, padded to a multiple of eight bytes; its checksum is still blank.
fn header(arrays: &[&Array], metadata: &BTreeMap<String, String>) -> Result<String> {
    // `format` is what transformers asks of a file.
    let fixed = [(CHECKSUM.to_owned(), BLANK.into()), ("format".to_owned(), "pt".into())];
    let mut texts = serde_json::Map::from_iter(fixed);
    texts.extend(metadata.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
    let mut entries = serde_json::Map::from_iter([("__metadata__".to_owned(), texts.into())]);
    let mut start = 0;
    for array in arrays {
        let end = start + array.size();
        let entry = serde_json::json!({ "dtype": array.dtype(), "shape": array.shape, "data_offsets": [start, end] });
        if entries.insert(array.name.clone(), entry).is_some() {
            return Err(Error::bug(format!("the array {} is saved twice", array.name)));
        }
        start = end;
    }
    let mut text = serde_json::Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    Ok(text)
}

/// How the name of a file begins that is not written to its end.
pub const UNFINISHED: &str = ".unfinished-";

/// Removes what writers that were killed left in a folder. Nobody may be writing into it.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let place = || format!("cannot clean up {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.context(place)?,
    };
    for entry in entries {
        let entry = entry.context(place)?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path()).context(place)?;
        }
    }
    Ok(())
}

/// Writes a file so that its path holds either the old content or all of the new one, also after a power cut:
/// a temporary file in the same folder, synced, renamed, and the folder synced.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let place = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).context(place)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // the umask takes its part
    let mut file = builder.prefix(UNFINISHED).tempfile_in(folder).context(place)?;
    write(file.as_file_mut()).context(place)?;
    file.as_file().sync_all().context(place)?;
    file.persist(path).map_err(|error| error.error).context(place)?;
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).context(place)?;
    Ok(())
}

/// A file in memory, checked.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where the numbers begin.
    start: usize,
    header: Metadata,
    metadata: BTreeMap<String, String>,
}

impl Stored {
    /// Reads and checks a file. One that is missing, cut off, damaged or of another kind is the user's error.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::user(format!("there is no file {}", path.display())),
            _ => Error::user(format!("cannot read {}: {error}", path.display())),
        })?;
        let (length, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::user(format!("{} {}", path.display(), not_safetensors(&bytes, &error))))?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let stored = Self { path: path.into(), start: length + 8, bytes, header, metadata };
        stored.verify()?;
        Ok(stored)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The full names of all arrays, in order of the file.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// An array on the CPU: I64 as it is, any floating-point type as f32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let place = || format!("{}: {name}", self.path.display());
        let info = self.header.info(name).ok_or_else(|| Error::user(format!("{} is not there", place())))?;
        let (from, to) = match info.dtype {
            Dtype::F32 => (DType::F32, DType::F32),
            Dtype::F16 => (DType::F16, DType::F32),
            Dtype::BF16 => (DType::BF16, DType::F32),
            Dtype::F64 => (DType::F64, DType::F32),
            Dtype::I64 => (DType::I64, DType::I64),
            other => {
                return Err(Error::user(format!("{} is {other:?}; F32, F16, BF16, F64 or I64 is needed", place())));
            }
        };
        let (begin, end) = info.data_offsets;
        let raw = self.bytes.get(self.start + begin..self.start + end).unwrap_or_default();
        let tensor = Tensor::from_raw_buffer(raw, from, &info.shape, &Device::Cpu).context(place)?;
        Ok(tensor.to_dtype(to)?)
    }

    /// The numbers of an array as f32.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.tensor(name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Files that this program wrote carry a checksum; others are taken as they are.
    fn verify(&self) -> Result<()> {
        let Some(checksum) = self.metadata.get(CHECKSUM) else { return Ok(()) };
        let (header, numbers) = self.bytes.get(8..).unwrap_or_default().split_at(self.start - 8);
        let blank = String::from_utf8_lossy(header).replacen(checksum, BLANK, 1);
        let mut hasher = Sha256::new_with_prefix(blank);
        hasher.update(numbers);
        if hex(&hasher.finalize()) == *checksum {
            return Ok(());
        }
        let path = self.path.display();
        Err(Error::user(format!("{path} is damaged: its content does not match its checksum; restore or delete it")))
    }
}

/// A file's sha256 in hexadecimal.
pub fn sha256_of_file(path: &Path) -> std::io::Result<String> {
    Ok(hex(&Sha256::digest(fs::read(path)?)))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why bytes are not a safetensors file, and what to do.
fn not_safetensors(bytes: &[u8], error: &dyn Display) -> String {
    match bytes {
        [] => "is empty".into(),
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => "is a PyTorch pickle, not a safetensors file; convert it in \
             Python: `safetensors.torch.save_file(torch.load(PATH, weights_only=True), \"weights.safetensors\")`"
            .into(),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`".into()
        }
        _ => format!("is not a whole safetensors file ({error}): cut off or damaged, get it again"),
    }
}
