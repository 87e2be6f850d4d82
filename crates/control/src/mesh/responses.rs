//! The body of a stream's responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use envoy::ads::Encoding;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::{Code, Status};

/// Responses as gRPC frames them. The transport asks for the next piece when the proxy has taken the last, so that of a
/// long response little is held.
pub(super) struct Responses {
    queue: mpsc::Receiver<Result<Encoding, Status>>,
    current: Option<Encoding>,
    ended: bool,
}

impl Responses {
    pub(super) fn new(queue: mpsc::Receiver<Result<Encoding, Status>>) -> Responses {
        Responses { queue, current: None, ended: false }
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(piece) = self.current.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.current = None;
        match ready!(self.queue.poll_recv(context)) {
            Some(Ok(response)) => match prefix(&response) {
                Ok(prefix) => {
                    self.current = Some(response);
                    Poll::Ready(Some(Ok(Frame::data(prefix))))
                }
                Err(status) => self.end(&status),
            },
            Some(Err(status)) => self.end(&status),
            None => self.end(&Status::new(Code::Ok, "")),
        }
    }
}

/// What gRPC puts before a message: that it is not compressed, and its length.
fn prefix(response: &Encoding) -> Result<Bytes, Status> {
    let length = u32::try_from(response.length());
    let length = length.map_err(|_| Status::resource_exhausted("a response is longer than gRPC allows"))?;
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(0);
    prefix.put_u32(length);
    Ok(prefix.freeze())
}
