//! A run's journal: what happened in it, one JSON record a line, appended by the worker that has the run and read by the
//! coordinator by byte offset. It needs nobody alive but the one who writes.

use crate::{
    error::{Cause, Context, Error, Result},
    event::{Event, Record},
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The journal's name in the run's folder.
pub const FILE: &str = "journal.jsonl";

/// How long a worker waits for an earlier one, orphaned, to write its checkpoint and leave.
const PATIENCE: Duration = Duration::from_secs(60);

/// The end of a journal, held by one process at a time.
pub struct Writer {
    file: File,
    path: PathBuf,
    attempt: u32,
}

impl Writer {
    /// Opens a journal for appending and locks it; a torn last line, left by a writer that was killed, is cut off.
    ///
    /// # Errors
    /// When another process still writes it after a minute.
    pub fn open(dir: &Path, attempt: u32) -> Result<Self> {
        let path = dir.join(FILE);
        let place = || format!("cannot open the journal {}", path.display());
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).context(place)?;
        lock(&file, &path)?;
        let whole = whole_lines(&file).context(place)?;
        file.set_len(whole).context(place)?;
        Ok(Self { file, path, attempt })
    }

    /// Appends one record. What speaks for an epoch or ends an attempt is on the disk when this returns.
    pub fn append(&mut self, event: Event) -> Result<()> {
        let place = || format!("cannot write the journal {}", self.path.display());
        let durable = is_durable(&event);
        let record = Record { time: now(), attempt: self.attempt, event };
        let mut line = serde_json::to_vec(&record).map_err(Error::bug)?;
        line.push(b'\n');
        // One write for the whole line: a reader or a kill meets a torn line only where the system tears it.
        if let Err(error) = self.file.write_all(&line) {
            // What a full disk let through of the line would tear the next one.
            let _ = whole_lines(&self.file).and_then(|whole| self.file.set_len(whole));
            return Err(error).context(place);
        }
        if durable {
            self.file.sync_data().context(place)?;
        }
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error).context(|| format!("cannot lock {}", path.display())),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another process still writes {}; end it, then start the same command again",
                    path.display()
                );
                return Err(Error::new(Cause::Environment, message));
            }
        }
    }
}

/// What must be on the disk before more happens: an epoch's values before the checkpoint behind that epoch, which would
/// have nobody repeat them, and what ends an attempt. A sync takes what stands before it along.
fn is_durable(event: &Event) -> bool {
    match event {
        Event::Epoch { .. } | Event::Paused { .. } | Event::Finished { .. } | Event::Failed { .. } => true,
        Event::Started { .. } | Event::Step { .. } | Event::Predictions { .. } => false,
        Event::Checkpoint { .. } | Event::Warning { .. } | Event::Origin(_) => false,
    }
}

/// Bytes up to and including the last line break.
fn whole_lines(mut file: &File) -> std::io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// What a journal holds behind an offset.
#[derive(Debug, Default, PartialEq)]
pub struct Tail {
    pub records: Vec<Record>,
    /// Where the next read goes on: behind the last whole line.
    pub offset: u64,
    /// Whole lines that are no records: damage by the disk or by hand.
    pub damaged: usize,
}

/// Reads the whole lines behind `offset`; a torn last line is left for later. A journal that is shorter than `offset`, as
/// after a power cut, is read from its start: its records replace what they repeat. No journal is an empty one.
pub fn read(dir: &Path, offset: u64) -> Result<Tail> {
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Tail::default()),
        file => file.context(|| format!("cannot read the journal {}", path.display()))?,
    };
    read_lines(file, offset).context(|| format!("cannot read the journal {}", path.display()))
}

/// How many attempts have written into a journal.
pub fn attempts(dir: &Path) -> Result<u32> {
    Ok(read(dir, 0)?.records.iter().map(|record| record.attempt).max().unwrap_or(0))
}

fn read_lines(mut file: File, offset: u64) -> std::io::Result<Tail> {
    let start = if file.metadata()?.len() < offset { 0 } else { offset };
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Tail { offset: start, ..Tail::default() };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(tail);
        }
        tail.offset += read as u64;
        match serde_json::from_slice(&line) {
            Ok(record) => tail.records.push(record),
            Err(_) => tail.damaged += 1,
        }
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Origin, Split};

    fn warning(text: &str) -> Event {
        Event::Warning { message: text.into() }
    }

    fn messages(tail: &Tail) -> Vec<String> {
        tail.records.iter().map(|record| format!("{} {:?}", record.attempt, record.event)).collect()
    }

    #[test]
    fn a_torn_last_line_waits_and_the_next_writer_cuts_it_off() {
        let dir = tempfile::tempdir().unwrap();
        Writer::open(dir.path(), 1).unwrap().append(warning("whole")).unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
        file.write_all(b"{\"time\":1.0,\"att").unwrap();
        let torn = read(dir.path(), 0).unwrap();
        assert_eq!((torn.records.len(), torn.damaged), (1, 0));

        Writer::open(dir.path(), 2).unwrap().append(warning("next")).unwrap();
        let tail = read(dir.path(), torn.offset).unwrap();
        assert_eq!(messages(&tail), [format!("2 {:?}", warning("next"))]);
        assert_eq!(read(dir.path(), 0).unwrap().damaged, 0);
    }

    #[test]
    fn a_line_longer_than_a_block_is_cut_off_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), [b"{}\n".as_slice(), &[b'x'; 200_000]].concat()).unwrap();
        drop(Writer::open(dir.path(), 1).unwrap());
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"{}\n");
    }

    #[test]
    fn a_damaged_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 1).unwrap();
        writer.append(warning("a")).unwrap();
        writer.file.write_all(b"\0\0\0\n").unwrap();
        writer.append(warning("b")).unwrap();
        let tail = read(dir.path(), 0).unwrap();
        assert_eq!((tail.records.len(), tail.damaged), (2, 1));
    }

    #[test]
    fn a_journal_that_lost_its_end_is_read_again_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        Writer::open(dir.path(), 1).unwrap().append(warning("a")).unwrap();
        let tail = read(dir.path(), 1_000_000).unwrap();
        assert_eq!(tail.records.len(), 1);
        assert!(tail.offset < 1_000_000);
    }

    #[test]
    fn values_come_back_to_the_last_bit_and_undefined_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let third = 1.0f64 / 3.0;
        let values = [("loss".into(), third), ("auc".into(), f64::NAN), ("lr".into(), 5e-324)].into();
        let mut writer = Writer::open(dir.path(), 1).unwrap();
        writer.append(Event::Epoch { epoch: 1, split: Split::Val, values }).unwrap();
        let tail = read(dir.path(), 0).unwrap();
        let Event::Epoch { values, .. } = &tail.records[0].event else { panic!("not an epoch") };
        assert_eq!(values.get("loss").map(|value| value.to_bits()), Some(third.to_bits()));
        assert_eq!(values.get("lr"), Some(&5e-324));
        assert_eq!(values.get("auc"), None);
    }

    #[test]
    fn every_event_comes_back() {
        let values = crate::event::Values::from([("loss".to_string(), 0.5)]);
        let rows = vec![crate::event::Prediction { image: "a.jpg".into(), target: 1, scores: vec![0.25, 0.75] }];
        let (device, message) = ("cpu".to_string(), "why".to_string());
        let events = [
            Event::Started { attempt: 3, device, threads: 1, epoch: 0, epochs: 2, steps_per_epoch: 9, parameters: 5 },
            Event::Origin(Box::new(Origin { commit: Some("abc".into()), ..Origin::default() })),
            Event::Step { epoch: 1, step: 1, values: values.clone() },
            Event::Epoch { epoch: 1, split: Split::Train, values: values.clone() },
            Event::Checkpoint { epoch: 1, best: true },
            Event::Predictions { epoch: 1, split: Split::Val, classes: vec!["real".into(), "fake".into()], rows },
            Event::Warning { message: message.clone() },
            Event::Paused { epoch: 1 },
            Event::Finished { best_epoch: 1, summary: values },
            Event::Failed { cause: Cause::OutOfMemory, message },
        ];
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 3).unwrap();
        events.iter().for_each(|event| writer.append(event.clone()).unwrap());
        let tail = read(dir.path(), 0).unwrap();
        assert_eq!(tail.damaged, 0);
        assert!(tail.records.iter().all(|record| record.attempt == 3));
        assert_eq!(tail.records.into_iter().map(|record| record.event).collect::<Vec<_>>(), events);
    }

    #[test]
    fn no_journal_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 10).unwrap(), Tail::default());
    }
}
