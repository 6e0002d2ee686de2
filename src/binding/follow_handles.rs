//! The collections that are being followed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fs::os::Os;
use crate::wal::{AppendQueue, Follow, Signal};

/// A collection that is being followed. It ends when it is dropped.
pub(super) struct OpenFollow(Arc<Following>);

impl OpenFollow {
    pub(super) fn new(following: Following) -> OpenFollow {
        OpenFollow(Arc::new(following))
    }

    pub(super) fn following(&self) -> &Arc<Following> {
        &self.0
    }
}

impl Drop for OpenFollow {
    fn drop(&mut self) {
        self.0.signal.end();
    }
}

pub(super) struct Following {
    pub(super) path: PathBuf,
    pub(super) signal: Arc<Signal>,
    /// Where the log is open in this process: the log, and the collection.
    pub(super) within: Option<(AppendQueue<Os>, String)>,
    pub(super) state: Mutex<FollowState>,
}

pub(super) struct FollowState {
    /// `None` when it is over.
    pub(super) follow: Option<Follow<Os>>,
    /// How long after a look without entries the next one is, where the system does not tell of changes.
    pub(super) pause: Duration,
}
