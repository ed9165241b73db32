//! What is read: a path or standard input, and in which format.
//!
//! It must not trust a name over content: a binary file is known by its first bytes, whatever it is called.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// A format that rows are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// The Arrow IPC file format (also called Feather).
    ArrowFile,
    /// The Arrow IPC stream format.
    ArrowStream,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Ndjson => "NDJSON",
            Self::ArrowFile => "an Arrow IPC file",
            Self::ArrowStream => "an Arrow IPC stream",
        })
    }
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

/// What to read, and how when the caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where bytes come from.
    pub input: Input,
    /// The format; none to find it out.
    pub format: Option<Format>,
}

impl Source {
    /// Returns a source for a file, or for standard input when the path is `-`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let input = if path.as_os_str() == "-" { Input::Stdin } else { Input::Path(path) };
        Self { input, format: None }
    }

    /// Returns the name by which messages call the source.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.input {
            Input::Path(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }

    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let name = self.name();
        let (raw, length): (Box<dyn Read + Send>, Option<u64>) = match &self.input {
            Input::Path(path) => {
                let opened = open_file(path).map_err(|source| Error::Open { name, source });
                let (file, length) = opened?;
                (Box::new(file), Some(length))
            }
            Input::Stdin => (Box::new(io::stdin()), None),
        };
        let position = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: raw, position: Arc::clone(&position) };
        let mut stream = BufReader::with_capacity(128 * 1024, counted);
        let format = self.find_format(&mut stream)?;
        Ok(Opened { name: self.name(), format, stream: Box::new(stream), position, length })
    }

    fn find_format(&self, stream: &mut impl BufRead) -> Result<Format, Error> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let name = self.name();
        let start = stream.fill_buf().map_err(|source| Error::Read { name, source })?;
        if start.is_empty() {
            return Err(Error::Empty { name: self.name() });
        }
        Ok(by_magic(start).or_else(|| self.by_extension()).unwrap_or_else(|| by_look(start)))
    }

    fn by_extension(&self) -> Option<Format> {
        let Input::Path(path) = &self.input else { return None };
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "parquet" | "pq" => Some(Format::Parquet),
            "arrow" | "feather" | "ipc" => Some(Format::ArrowFile),
            "arrows" => Some(Format::ArrowStream),
            _ => None,
        }
    }
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok((file, metadata.len()))
}

fn by_magic(start: &[u8]) -> Option<Format> {
    if start.starts_with(b"PAR1") {
        return Some(Format::Parquet);
    }
    if start.starts_with(b"ARROW1") {
        return Some(Format::ArrowFile);
    }
    start.starts_with(&[0xff; 4]).then_some(Format::ArrowStream)
}

fn by_look(start: &[u8]) -> Format {
    let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Format::Ndjson,
        _ => Format::Csv,
    }
}

/// What some programs write before UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A stream of bytes that can be handed to a decoder.
pub(crate) type Stream = Box<dyn BufRead + Send>;

/// A source whose format is known, at its first byte.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) stream: Stream,
    pub(crate) position: Arc<AtomicU64>,
    pub(crate) length: Option<u64>,
}

impl Opened {
    pub(crate) fn read_error(&self, source: io::Error) -> Error {
        Error::Read { name: self.name.clone(), source }
    }
}

/// Counts the bytes that were taken, for progress.
struct Counted<R> {
    inner: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
