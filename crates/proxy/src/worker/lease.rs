//! What ends the connections of a chain.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// What ends the connections of a chain: those of HTTP are first told to end by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// Tells connections to end with what is under way.
    pub(crate) draining: CancellationToken,
    /// Ends connections.
    pub(crate) closed: CancellationToken,
}

impl Lease {
    pub(super) fn new() -> Lease {
        Lease { draining: CancellationToken::new(), closed: CancellationToken::new() }
    }

    /// One that ends with this one at the latest.
    pub(super) fn child(&self) -> Lease {
        Lease { draining: self.draining.child_token(), closed: self.closed.child_token() }
    }

    /// Gives connections this time to end.
    pub(super) fn end(&self, within: Duration) {
        self.draining.cancel();
        let closed = self.closed.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(within).await;
            closed.cancel();
        });
    }
}
