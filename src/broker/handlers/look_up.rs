//! Look-ups: requests whose answer may lie anywhere in the log and its derived data, so on the
//! disk. [`Readers`](crate::broker::readers::Readers), who may wait for that, read for them.
//!
//! The connection's next request waits for the answer, others' do not: so a connection has one
//! look-up under way at most, and its request is counted among those that wait (`net`).

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ids::PhysicalOffset;
use crate::store::query;

use super::Reading;
use crate::broker::Broker;
use crate::broker::error::RequestError;

/// What a reader does for a look-up.
pub struct LookUp(Box<dyn FnOnce(&Broker) + Send>);

impl LookUp {
    /// Reads, and hands over what was found.
    pub(super) fn go_on(self, broker: &Broker) {
        (self.0)(broker);
    }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookUp")
    }
}

impl Broker {
    /// What `look` finds, on a thread that may wait for the disk. What it finds damaged is repaired
    /// from another member, and looked up once more.
    pub(in crate::broker) async fn look_up<T: Send + 'static>(
        &self,
        look: impl Fn(&Self) -> Result<T, RequestError> + Send + Sync + 'static,
    ) -> Result<T, RequestError> {
        let (look, mut repaired) = (Arc::new(look), None);
        loop {
            match self.ask_readers(&look).await {
                Err(RequestError::MessageDamaged { position, .. })
                    if repaired != Some(position) =>
                {
                    self.repair(position).await?;
                    repaired = Some(position);
                }
                found => return found,
            }
        }
    }

    async fn ask_readers<T: Send + 'static>(
        &self,
        look: &Arc<impl Fn(&Self) -> Result<T, RequestError> + Send + Sync + 'static>,
    ) -> Result<T, RequestError> {
        let (tell, told) = oneshot::channel();
        let look = Arc::downgrade(look); // nobody reads for a client that has gone
        let turn = move |broker: &Self| {
            if let Some(look) = look.upgrade() {
                drop(tell.send(look(broker)));
            }
        };
        let waiting = Reading::LookUp(LookUp(Box::new(turn)));
        self.readers.take(waiting).map_err(|_| RequestError::ReadersBusy)?;
        told.await.unwrap_or(Err(RequestError::ReadersBusy)) // they have been closed
    }

    async fn repair(&self, position: PhysicalOffset) -> Result<(), RequestError> {
        let (tell, told) = oneshot::channel();
        self.group.repair(position, Box::new(move |repaired| drop(tell.send(repaired))));
        let repaired =
            told.await.unwrap_or_else(|_| Err("this member is shutting down".to_owned()));
        repaired.map_err(|why| self.damaged(position, why))
    }

    /// Refuses a request that needs a damaged message.
    pub(super) fn damaged(&self, position: PhysicalOffset, why: String) -> RequestError {
        RequestError::MessageDamaged { position, member: self.identity.member.clone(), why }
    }

    /// Refuses a request that needs a time which cannot be told.
    pub(super) fn time_unknown(&self, error: query::Error) -> RequestError {
        match error {
            query::Error::Damaged { position } => {
                self.damaged(position, "the log has it as it was written".to_owned())
            }
            query::Error::Queues(error) => error.into(),
        }
    }
}
