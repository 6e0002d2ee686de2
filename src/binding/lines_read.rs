//! `lines.read`, `lines.follow`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;

use super::environment::{Environment, Port};
use super::lines_handles::{Before, LinesHandle, OpenLines, Watch, notify};
use super::path_text::NativePath;
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lines::LineReader;
use crate::threads::{pool, task};

/// A file that has been opened, if there is one.
#[napi(object, object_from_js = false)]
pub struct OpenedLines {
    pub lines: Option<u32>,
    pub size: f64,
}

/// Where to begin.
#[napi(object, object_from_js = false)]
pub struct LinesStart {
    /// The first line that is to be given out.
    pub wanted: f64,
    /// The first line of its append.
    pub start: f64,
}

/// What there is to see of a file.
#[napi(object, object_from_js = false)]
pub struct LinesStamp {
    pub stamp: String,
}

/// A piece of a file.
#[napi(object, object_from_js = false)]
pub struct LinesChunk {
    pub bytes: Buffer,
    /// How long the file was before.
    pub size: f64,
    /// What the name of the file stood for before that.
    #[napi(ts_type = "'same' | 'other' | 'nothing'")]
    pub name: &'static str,
}

/// Answers when something of the file is not as it was. Between two looks no thread waits.
fn answer_news(environment: Arc<Environment>, id: f64, lines: Arc<OpenLines>, before: Before) {
    let (own, seen_before) = (Arc::clone(&lines), before.clone());
    let look = move || {
        let seen = own.signal.count();
        Ok((own.has_news(&seen_before)?, seen, own.pause()))
    };
    let answer = move |outcome: Result<(bool, u64, Option<Duration>), ErrorKind>| match outcome {
        Ok((false, seen, pause)) => {
            if let Some(pause) = pause {
                let signal = Arc::downgrade(&lines.signal);
                let _ = pool().submit_after(pause, Box::new(move || notify(&signal)));
            }
            let signal = Arc::clone(&lines.signal);
            let again = move || answer_news(environment, id, lines, before);
            signal.when_more_than(seen, Box::new(again));
        }
        Ok((true, ..)) => environment.done(id, Operation::ReadLines, &lines.path, Ok(())),
        Err(kind) => environment.fail(id, Operation::ReadLines, &lines.path, kind),
    };
    task::run(pool(), look, answer);
}

fn find(environment: &Environment, id: f64, number: u32) -> Option<Arc<OpenLines>> {
    let look = |_: u32, handle: &LinesHandle| Arc::clone(&handle.0);
    let found = environment.lines.look(&[number], look).pop();
    if found.is_none() {
        environment.fail(id, Operation::ReadLines, Path::new(""), ErrorKind::Cancelled);
    }
    found
}

#[napi]
impl Port {
    /// Opens a file of lines for reading, if there is one.
    #[napi]
    pub fn open_lines(&self, id: f64, path: NativePath) {
        let environment = Arc::clone(&self.environment);
        let (path, kept) = (PathBuf::from(path), Arc::clone(&environment));
        let target = path.clone();
        let open = move || {
            let Some(reader) = LineReader::open(&Os, &target)? else {
                return Ok(OpenedLines { lines: None, size: 0.0 });
            };
            let size = reader.size()? as f64;
            let (signal, watch) = (Arc::default(), Mutex::new(Watch::NotYet));
            let handle = LinesHandle(Arc::new(OpenLines { path: target, reader, signal, watch }));
            let number = kept.lines.keep(handle).ok_or(ErrorKind::Cancelled)?;
            Ok(OpenedLines { lines: Some(number), size })
        };
        let answer = move |opened| environment.answer(id, Operation::ReadLines, &path, opened);
        task::run(pool(), open, answer);
    }

    /// At most so many bytes from an offset on; none at the end.
    #[napi]
    pub fn read_lines(&self, id: f64, lines: u32, offset: f64, most: u32) {
        let environment = Arc::clone(&self.environment);
        let Some(open) = find(&environment, id, lines) else { return };
        let own = Arc::clone(&open);
        let read = move || {
            // First: what is appended before the name is given to another file is to be read.
            let name = own.name_state()?;
            let size = own.reader.size()? as f64;
            let bytes = own.reader.read(offset as u64, most as usize)?;
            Ok(LinesChunk { bytes: bytes.into(), size, name })
        };
        let answer = move |chunk| environment.answer(id, Operation::ReadLines, &open.path, chunk);
        task::run(pool(), read, answer);
    }

    /// Where reading begins that is to give out the last lines, or those from an offset on.
    #[napi]
    pub fn start_lines(&self, id: f64, lines: u32, last: Option<f64>, offset: f64) {
        let environment = Arc::clone(&self.environment);
        let Some(open) = find(&environment, id, lines) else { return };
        let own = Arc::clone(&open);
        let look = move || {
            let wanted = match last {
                Some(count) => own.reader.start_of_last(count as u64)?,
                None => offset as u64,
            };
            let start = own.reader.start_of_append(wanted)?;
            Ok(LinesStart { wanted: wanted as f64, start: start as f64 })
        };
        let answer = move |start| environment.answer(id, Operation::ReadLines, &open.path, start);
        task::run(pool(), look, answer);
    }

    /// Answers when a file has another size than this, or its name stands for something else, or it
    /// has been closed.
    #[napi]
    pub fn await_lines(
        &self,
        id: f64,
        lines: u32,
        size: f64,
        #[napi(ts_arg_type = "'same' | 'other' | 'nothing'")] name: String,
    ) {
        let environment = Arc::clone(&self.environment);
        if let Some(open) = find(&environment, id, lines) {
            answer_news(environment, id, open, Before::Size(size as u64, name));
        }
    }

    /// What there is to see of a file now, for `await_change`.
    #[napi]
    pub fn stamp_lines(&self, id: f64, lines: u32) {
        let environment = Arc::clone(&self.environment);
        let Some(open) = find(&environment, id, lines) else { return };
        let own = Arc::clone(&open);
        let look = move || Ok(LinesStamp { stamp: own.stamp()? });
        let answer = move |stamp| environment.answer(id, Operation::ReadLines, &open.path, stamp);
        task::run(pool(), look, answer);
    }

    /// Answers when there is something else to see, or the file has been closed.
    #[napi]
    pub fn await_change(&self, id: f64, lines: u32, stamp: String) {
        let environment = Arc::clone(&self.environment);
        if let Some(open) = find(&environment, id, lines) {
            answer_news(environment, id, open, Before::Stamp(stamp));
        }
    }

    /// Closes a file of lines, and ends a wait for it.
    #[napi]
    pub fn close_lines(&self, lines: u32) {
        drop(self.environment.lines.take(lines));
    }
}
