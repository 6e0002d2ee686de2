//! What waits to be appended, and which batches are next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::error::ErrorKind;
use crate::wal::batch::Batch;
use crate::wal::format;

/// How many bytes one group has, unless a single batch has more.
const LARGEST_GROUP: usize = 8 << 20;

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The sequence number of the first entry. The others follow it.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// How much memory the collection's memtable takes now, about.
    pub memtable_bytes: usize,
}

/// Takes what came of an append.
pub type OnAppended = Box<dyn FnOnce(Result<Appended, ErrorKind>) + Send>;

/// A batch on its way to the log.
pub(super) struct QueuedBatch {
    pub(super) batch: Arc<Batch>,
    pub(super) durable: bool,
    pub(super) on_appended: OnAppended,
    /// When it joined the queue of its collection.
    pub(super) queued: Instant,
}

#[derive(Default)]
pub(super) struct AppendQueueState {
    collections: HashMap<String, CollectionQueue>,
    /// The batches for which there is no room yet, in the order of the calls. Where there are
    /// any, `bytes` is not 0, so a job runs that will make room.
    waiting: VecDeque<(String, QueuedBatch)>,
    /// The bytes that are queued or being written.
    bytes: usize,
    /// How many jobs run, or are about to.
    pub(super) jobs: usize,
    /// A job will sync in the background.
    pub(super) is_sync_due: bool,
    pub(super) is_closing: bool,
    /// Is called when no more jobs run.
    pub(super) on_idle: Vec<Box<dyn FnOnce() + Send>>,
}

/// The batches of one collection.
#[derive(Default)]
struct CollectionQueue {
    batches: VecDeque<QueuedBatch>,
    has_job: bool,
}

impl AppendQueueState {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many batches wait for room.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the collection has had a batch.
    pub(super) fn is_known(&self, collection: &str) -> bool {
        self.collections.contains_key(collection)
    }

    /// Whether batches of the collection are queued.
    pub(super) fn has_batches(&self, collection: &str) -> bool {
        self.collections.get(collection).is_some_and(|queue| !queue.batches.is_empty())
    }

    /// Whether a job is to be started for the collection; it counts as running from now on.
    pub(super) fn starts_job(&mut self, collection: &str) -> bool {
        match self.collections.get_mut(collection) {
            Some(queue) if !queue.has_job => {
                queue.has_job = true;
                self.jobs += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes a batch into the queue of its collection, or lets it wait. The answer is whether it
    /// was taken into the queue: there is room, and no other batch has waited for longer.
    pub(super) fn add(&mut self, collection: &str, queued: QueuedBatch, limit: usize) -> bool {
        if self.waiting.is_empty() && self.has_room(&queued.batch, limit) {
            self.enqueue(collection, queued);
            return true;
        }
        self.waiting.push_back((collection.to_owned(), queued));
        false
    }

    /// One batch always has room.
    fn has_room(&self, batch: &Batch, limit: usize) -> bool {
        self.bytes == 0 || self.bytes + batch.bytes() <= limit
    }

    fn enqueue(&mut self, collection: &str, queued: QueuedBatch) {
        self.bytes += queued.batch.bytes();
        if let Some(queue) = self.collections.get_mut(collection) {
            queue.batches.push_back(queued);
        } else {
            let queue = CollectionQueue { batches: [queued].into(), has_job: false };
            self.collections.insert(collection.to_owned(), queue);
        }
    }

    /// Makes room: so many bytes have been written, or were refused. The answer is the
    /// collections whose queues batches have joined that had waited for it.
    pub(super) fn make_room(&mut self, bytes: usize, limit: usize) -> Vec<String> {
        self.bytes -= bytes;
        let mut joined = Vec::new();
        while let Some((_, first)) = self.waiting.front()
            && self.has_room(&first.batch, limit)
            && let Some((collection, mut queued)) = self.waiting.pop_front()
        {
            queued.queued = Instant::now();
            self.enqueue(&collection, queued);
            joined.push(collection);
        }
        joined
    }

    /// The next group of a collection: what is queued, up to a size, or one batch. Empty when
    /// nothing is queued.
    pub(super) fn next_group(&mut self, collection: &str, is_single: bool) -> Vec<QueuedBatch> {
        let mut group = Vec::new();
        let Some(queue) = self.collections.get_mut(collection) else { return group };
        let mut bytes = 0;
        while let Some(first) = queue.batches.front() {
            bytes += format::most_bytes(&first.batch);
            if !group.is_empty() && (bytes > LARGEST_GROUP || is_single) {
                break;
            }
            group.extend(queue.batches.pop_front());
        }
        group
    }

    /// Takes out what no job will append: the batches of a collection and, if no other batch is
    /// left that would make room for them, those that wait.
    pub(super) fn refuse(&mut self, collection: &str) -> Vec<QueuedBatch> {
        let Some(queue) = self.collections.get_mut(collection) else { return Vec::new() };
        let mut refused: Vec<QueuedBatch> = queue.batches.drain(..).collect();
        self.bytes -= refused.iter().map(|queued| queued.batch.bytes()).sum::<usize>();
        if self.bytes == 0 {
            refused.extend(self.waiting.drain(..).map(|(_, queued)| queued));
        }
        refused
    }

    /// Notes that the job of a collection has ended. Its name is kept: a collection that was used
    /// will be used again. The answer is whether there was one.
    pub(super) fn end_job_of(&mut self, collection: &str) -> bool {
        self.collections
            .get_mut(collection)
            .is_some_and(|queue| std::mem::replace(&mut queue.has_job, false))
    }
}
