//! Consumers of write-ahead logs. The methods are described in `wal`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::BigInt;
use napi_derive::napi;

use super::environment::{Environment, Port};
use super::handles::OpenConsumer;
use super::lock::LockWaiter;
use super::path_text::NativePath;
use super::wal::{closed, sequence};
use crate::error::{ErrorKind, Operation};
use crate::locked_consumer::{self, ConsumerRequest, LockedConsumer};
use crate::locked_wal::DEFAULT_LOCK_TIMEOUT;
use crate::threads::{pool, task};

const OPERATION: Operation = Operation::WalConsumer;

/// A consumer that has been opened.
#[napi(object, object_from_js = false)]
pub struct OpenedConsumer {
    /// Its number.
    pub consumer: u32,
    /// The last sequence number that it has acknowledged.
    pub position: BigInt,
}

#[napi]
impl Port {
    /// Takes the lock of a consumer, and opens it. Nothing to wait for if a name cannot be one.
    #[napi]
    pub fn open_consumer(
        &self,
        id: f64,
        dir: NativePath,
        collection: String,
        name: String,
        from: Option<BigInt>,
        timeout: Option<f64>,
    ) -> Option<LockWaiter> {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let timeout = timeout.map_or(Some(DEFAULT_LOCK_TIMEOUT), |milliseconds| {
            Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
        });
        let from = from.as_ref().map(sequence);
        let request = ConsumerRequest { log: path.clone(), collection, name, from, timeout };
        let (own, log) = (Arc::clone(&environment), path.clone());
        let on_opened = move |opened: Result<LockedConsumer, ErrorKind>| {
            let opened = match opened {
                Ok(LockedConsumer { consumer, guard }) => {
                    let position = consumer.position().into();
                    let open = OpenConsumer { path: log.clone(), consumer, _guard: guard };
                    match own.consumers.keep(Arc::new(open)) {
                        Some(consumer) => Ok(OpenedConsumer { consumer, position }),
                        None => return,
                    }
                }
                Err(kind) => Err(kind),
            };
            own.answer(id, OPERATION, &log, opened);
        };
        match locked_consumer::open(pool(), request, on_opened) {
            Ok(waiter) => Some(LockWaiter { waiter }),
            Err(kind) => {
                environment.fail(id, OPERATION, &path, kind);
                None
            }
        }
    }

    /// Moves the position of a consumer up.
    #[napi]
    pub fn acknowledge(&self, id: f64, consumer: u32, up_to: BigInt) {
        let up_to = sequence(&up_to);
        let open = self.environment.consumers.get(consumer);
        on_consumer(&self.environment, id, open, move |open| open.consumer.acknowledge(up_to));
    }

    /// Ends the use of a consumer: another process may be it.
    #[napi]
    pub fn close_consumer(&self, id: f64, consumer: u32) {
        let open = self.environment.consumers.take(consumer);
        on_consumer(&self.environment, id, open, |_| Ok(()));
    }

    /// Removes a consumer, and ends its use.
    #[napi]
    pub fn remove_consumer(&self, id: f64, consumer: u32) {
        let open = self.environment.consumers.take(consumer);
        on_consumer(&self.environment, id, open, |open| open.consumer.remove());
    }
}

/// Does something with a consumer on a thread of the pool. If it was the last, the lock is released
/// before the answer.
fn on_consumer(
    environment: &Arc<Environment>,
    id: f64,
    open: Option<Arc<OpenConsumer>>,
    act: impl FnOnce(&OpenConsumer) -> Result<(), ErrorKind> + Send + 'static,
) {
    let environment = Arc::clone(environment);
    let Some(open) = open else {
        return environment.fail(id, OPERATION, Path::new(""), closed());
    };
    let path = open.path.clone();
    let work = move || {
        let outcome = act(&open);
        drop(open);
        outcome
    };
    task::run(pool(), work, move |outcome| environment.done(id, OPERATION, &path, outcome));
}
