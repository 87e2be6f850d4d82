//! The bodies of requests to upstream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::upload::{Attempt, UploadError};

/// The body of a request to upstream.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    /// There is none.
    #[default]
    Nothing,
    /// It is known already.
    Text(Bytes),
    /// It comes from downstream.
    Upload(Attempt),
    /// It goes elsewhere from downstream, and this is a copy.
    Copy(Rc<Copied>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut *self {
            RequestBody::Nothing => Poll::Ready(None),
            RequestBody::Text(text) if text.is_empty() => Poll::Ready(None),
            RequestBody::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            RequestBody::Upload(attempt) => Pin::new(attempt).poll_frame(cx),
            RequestBody::Copy(copied) => copied.poll_next(cx).map(|next| next.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Nothing => true,
            RequestBody::Text(text) => text.is_empty(),
            RequestBody::Upload(attempt) => attempt.is_end_stream(),
            RequestBody::Copy(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Nothing => SizeHint::with_exact(0),
            RequestBody::Text(text) => SizeHint::with_exact(text.len() as u64),
            RequestBody::Upload(attempt) => attempt.size_hint(),
            RequestBody::Copy(_) => SizeHint::default(),
        }
    }
}

/// A copy of a body, without trailers. Whoever reads it may be slow, but does not hold up the others: when too much
/// waits, the copy is broken off.
#[derive(Debug)]
pub(crate) struct Copied {
    waiting: RefCell<VecDeque<Bytes>>,
    /// How much more may wait, in bytes.
    room: Cell<usize>,
    end: Cell<End>,
    waker: RefCell<Option<Waker>>,
}

/// What follows what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More.
    NotYet,
    /// Nothing.
    Whole,
    /// Something that is lost.
    Broken,
}

impl Copied {
    pub(super) fn new(room: usize) -> Copied {
        let end = Cell::new(End::NotYet);
        Copied { waiting: RefCell::default(), room: Cell::new(room), end, waker: RefCell::default() }
    }

    pub(super) fn add(&self, data: &Bytes) {
        match self.room.get().checked_sub(data.len()) {
            Some(room) => {
                self.room.set(room);
                self.waiting.borrow_mut().push_back(data.clone());
                self.wake();
            }
            None => self.break_off(),
        }
    }

    pub(super) fn end(&self) {
        if self.end.get() == End::NotYet {
            self.end.set(End::Whole);
        }
        self.wake();
    }

    pub(super) fn break_off(&self) {
        self.end.set(End::Broken);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.end.get() == End::Whole && self.waiting.borrow().is_empty()
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadError>>> {
        if self.end.get() == End::Broken {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        if let Some(data) = self.waiting.borrow_mut().pop_front() {
            self.room.set(self.room.get() + data.len());
            return Poll::Ready(Some(Ok(data)));
        }
        if self.end.get() == End::Whole {
            return Poll::Ready(None);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(copied: &Copied) -> Poll<Option<Result<Bytes, UploadError>>> {
        copied.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_copy_is_whole_unless_too_much_waits() {
        let copied = Copied::new(4);
        assert!(next(&copied).is_pending());
        copied.add(&Bytes::from_static(b"abc"));
        assert!(matches!(next(&copied), Poll::Ready(Some(Ok(data))) if data == "abc"));
        copied.add(&Bytes::from_static(b"defg"));
        copied.end();
        assert!(!copied.is_over());
        assert!(matches!(next(&copied), Poll::Ready(Some(Ok(data))) if data == "defg"));
        assert!(copied.is_over() && matches!(next(&copied), Poll::Ready(None)));
        let slow = Copied::new(4);
        slow.add(&Bytes::from_static(b"abc"));
        slow.add(&Bytes::from_static(b"de"));
        slow.end();
        assert!(matches!(next(&slow), Poll::Ready(Some(Err(_)))));
    }
}
