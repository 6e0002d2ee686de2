//! `atomicWrite` and `atomicWriteSync`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use napi::Either;
use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use super::convert::{Message, Report, WriteOptions};
use super::port::{Outcomes, Port};
use crate::error::Error;
use crate::fs::os::Os;
use crate::io::{Started, pool};
use crate::lock::Hold;
use crate::payload::Payload;
use crate::write::{self, Client, Event, Observer, Options, Request};

/// Data up to this size is copied when the call is made, larger data is referenced: from
/// here on the copy costs more than the bookkeeping, and memory begins to matter.
const LARGEST_COPY: usize = 1 << 20;

/// Cancels a write.
#[napi]
#[derive(Default)]
pub struct Control {
    control: Arc<write::Control>,
}

#[napi]
impl Control {
    #[napi(constructor)]
    pub fn new() -> Control {
        Control::default()
    }

    /// Asks the write to stop. Its outcome tells whether it did.
    #[napi]
    pub fn cancel(&self) {
        self.control.cancel();
    }
}

#[napi]
impl Port {
    /// Starts a write. JavaScript keeps `data` alive until the outcome arrives. The lock with
    /// the number `hold`, if there is one, is given back when the write is over.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn write(
        &self,
        id: f64,
        path: String,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        options: Option<WriteOptions>,
        is_observed: bool,
        control: Option<&Control>,
        hold: Option<u32>,
    ) {
        let payload = match data.len() {
            0..=LARGEST_COPY => Payload::Owned(data.to_vec()),
            _ => borrow(&data),
        };
        let outcomes = Arc::clone(&self.environment.outcomes);
        let hold = hold.and_then(|number| self.environment.holds.take(number));
        let caller = Caller { id, outcomes, is_observed, hold };
        let control = control.map_or_else(Arc::default, |given| Arc::clone(&given.control));
        write::submit(pool(), Os, request(path, payload, options), control, caller);
    }
}

/// Writes on the calling thread and returns what there is to tell, the failure last.
#[napi]
pub fn write_sync(
    path: String,
    #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
    options: Option<WriteOptions>,
    is_observed: bool,
) -> Vec<Report> {
    let log = Log::default();
    let observer: Option<&dyn Observer> = if is_observed { Some(&log) } else { None };
    let request = request(path, borrow(&data), options);
    let outcome = write::run(&Os, &request, &write::Control::default(), observer);
    let mut reports = log.0.into_inner();
    reports.extend(outcome.err().map(|error| Report::failed(0.0, error)));
    reports
}

fn request(path: String, payload: Payload, options: Option<WriteOptions>) -> Request {
    let options = options.map_or_else(Options::default, Options::from);
    Request { path: PathBuf::from(path), payload, options }
}

fn borrow(data: &[u8]) -> Payload {
    Payload::Borrowed { address: data.as_ptr().expose_provenance(), length: data.len() }
}


/// The JavaScript call that waits for a write.
struct Caller {
    id: f64,
    outcomes: Arc<Outcomes>,
    is_observed: bool,
    /// The lock under which the write is made.
    hold: Option<Hold>,
}

impl Client for Caller {
    type Started = Started<Message>;

    fn start(&self, borrows_memory: bool) -> Option<Started<Message>> {
        self.outcomes.start(borrows_memory)
    }

    fn observer(&self) -> Option<&dyn Observer> {
        if self.is_observed { Some(self) } else { None }
    }

    fn finish(&mut self, outcome: Result<(), Error>) {
        // Whoever is told of the outcome finds the lock free.
        self.hold = None;
        self.outcomes.push(match outcome {
            Ok(()) => Either::A(self.id),
            Err(error) => Either::B(Report::failed(self.id, error)),
        });
    }
}

impl Observer for Caller {
    fn event(&self, event: Event) {
        self.outcomes.push(Either::B(Report::happened(self.id, event)));
    }
}

/// Collects the events of a synchronous write.
#[derive(Default)]
struct Log(RefCell<Vec<Report>>);

impl Observer for Log {
    fn event(&self, event: Event) {
        self.0.borrow_mut().push(Report::happened(0.0, event));
    }
}
