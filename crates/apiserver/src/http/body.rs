//! Request and response bodies.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use super::Body;

/// What a body may fail with.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The largest request body, as in kube-apiserver.
const LIMIT: usize = 3 << 20;

/// How long a client may take to send its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request's body, from a connection or from this process.
pub(super) enum RequestBody {
    Connection(Incoming),
    InProcess(Body),
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Connection(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            RequestBody::InProcess(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Connection(body) => body.is_end_stream(),
            RequestBody::InProcess(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Connection(body) => body.size_hint(),
            RequestBody::InProcess(body) => body.size_hint(),
        }
    }
}

/// Reads a whole body, within the limits of size and patience.
pub(super) async fn read(body: RequestBody) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(ApiError::too_large(LIMIT));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, LIMIT).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(ApiError::too_large(LIMIT)),
        Ok(Err(e)) => Err(ApiError::bad_request(format!("the request body could not be read: {e}"))),
        Err(_) => {
            let message = format!("the request body did not arrive within {} seconds", PATIENCE.as_secs());
            Err(ApiError::new(408, "Timeout", message))
        }
    }
}

/// A body that is all there.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
