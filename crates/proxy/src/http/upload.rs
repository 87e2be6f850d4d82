//! The body of a request on its way to upstream, perhaps more than once.
//!
//! A body is read from downstream only as fast as upstream takes it. As long as the request may be sent again, what has
//! been read is kept, up to a limit; beyond it the request cannot be sent again.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::body::Copied;
use super::messages::Messages;
use super::watch::Watch;

/// The largest piece that comes at once, in bytes.
const LARGEST_PIECE: usize = 1 << 20;

/// The body of a request, as all attempts to send it share it.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: RefCell<Incoming>,
    /// Bytes that came from downstream.
    received: Cell<u64>,
    state: Cell<State>,
    /// When downstream had said all.
    ended: Cell<Option<Instant>>,
    /// Who waits for that.
    waker: RefCell<Option<Waker>>,
    /// Which attempt may read.
    attempt: Cell<u32>,
    kept: RefCell<Kept>,
    /// Who gets all of it, too.
    copies: RefCell<Vec<Rc<Copied>>>,
    /// Learns that something has come.
    watch: Rc<Watch>,
    /// Counts messages, if there are any.
    messages: Option<RefCell<Messages>>,
    /// Whether trailers go on, or are dropped.
    trailers: Cell<bool>,
}

/// How far the body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    Complete,
    Broken,
    Malformed,
}

/// What has been read and may be needed again.
#[derive(Debug, Default)]
struct Kept {
    /// How much more may be kept, in bytes; `None` if nothing more is kept.
    room: Option<usize>,
    data: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether something has gone on and is not known any more.
    lost: bool,
}

/// The body of one attempt to send a request.
#[derive(Debug)]
pub(crate) struct Attempt {
    upload: Rc<Upload>,
    attempt: u32,
    /// How many of the kept pieces have been sent.
    position: usize,
    trailers_sent: bool,
}

/// Why a body ended early.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// Downstream broke.
    Downstream(hyper::Error),
    /// The request is sent again elsewhere, or not any more.
    Superseded,
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UploadError::Downstream(e) => write!(f, "downstream broke: {e}"),
            UploadError::Superseded => f.write_str("the attempt was given up"),
        }
    }
}

impl std::error::Error for UploadError {}

impl Upload {
    /// Takes the body of a request; `None` if it has none. Of what is read, up to `keep` bytes are kept.
    pub(crate) fn new(incoming: Incoming, keep: Option<usize>, watch: &Rc<Watch>, grpc: bool) -> Option<Rc<Upload>> {
        (!incoming.is_end_stream()).then(|| {
            Rc::new(Upload {
                incoming: RefCell::new(incoming),
                received: Cell::new(0),
                state: Cell::new(State::UnderWay),
                ended: Cell::new(None),
                waker: RefCell::default(),
                attempt: Cell::new(0),
                kept: RefCell::new(Kept { room: keep, ..Kept::default() }),
                copies: RefCell::default(),
                watch: watch.clone(),
                messages: grpc.then(RefCell::default),
                trailers: Cell::new(true),
            })
        })
    }

    /// Whether another attempt could send all of it.
    pub(crate) fn may_be_sent_again(&self) -> bool {
        !self.kept.borrow().lost
    }

    /// The body for another attempt, which ends all earlier ones; `None` if what was sent is not known any more.
    pub(crate) fn again(self: &Rc<Self>) -> Option<Attempt> {
        if !self.may_be_sent_again() {
            return None;
        }
        self.attempt.set(self.attempt.get() + 1);
        Some(Attempt { upload: self.clone(), attempt: self.attempt.get(), position: 0, trailers_sent: false })
    }

    /// All of the body for somebody else, of whom neither downstream nor upstream takes notice: as it comes, as long as
    /// no more than `room` bytes wait to be read.
    pub(crate) fn copy(&self, room: usize) -> Rc<Copied> {
        let copied = Rc::new(Copied::new(room));
        let kept = self.kept.borrow();
        if kept.lost {
            copied.break_off();
            return copied;
        }
        kept.data.iter().for_each(|data| copied.add(data));
        match self.state.get() {
            State::UnderWay => self.copies.borrow_mut().push(copied.clone()),
            State::Complete => copied.end(),
            State::Broken | State::Malformed => copied.break_off(),
        }
        copied
    }

    /// The request will not be sent again: nothing more is kept.
    pub(crate) fn settle(&self) {
        self.kept.borrow_mut().room = None;
    }

    /// Trailers do not go on.
    pub(crate) fn drop_trailers(&self) {
        self.trailers.set(false);
    }

    /// Bytes that came from downstream.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// Messages of gRPC that came from downstream.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.as_ref().map_or(0, |messages| messages.borrow().begun())
    }

    /// Whether downstream has said all.
    pub(crate) fn is_complete(&self) -> bool {
        self.state.get() == State::Complete
    }

    /// Whether what has come is no body.
    pub(crate) fn is_malformed(&self) -> bool {
        self.state.get() == State::Malformed
    }

    /// When downstream had said all, if it has.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.ended.get()
    }

    /// Reads the beginning, up to a limit, and keeps it for upstream; returns it, and whether that is all.
    pub(crate) async fn beginning(&self, limit: usize) -> (Vec<u8>, bool) {
        std::future::poll_fn(|cx| {
            let enough = |upload: &Upload| upload.received.get() > limit as u64;
            while self.state.get() == State::UnderWay && !enough(self) {
                if let Some(room) = &mut self.kept.borrow_mut().room {
                    // A piece may be larger than the room that is left.
                    *room = (*room).max(LARGEST_PIECE);
                }
                drop(ready!(self.poll_incoming(cx)));
            }
            let mut read = self.kept.borrow().data.concat();
            let whole = self.state.get() == State::Complete && read.len() <= limit;
            read.truncate(limit);
            Poll::Ready((read, whole))
        })
        .await
    }

    /// Waits until downstream has said all.
    pub(crate) async fn completed(&self) {
        std::future::poll_fn(|cx| {
            if self.is_complete() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn set_complete(&self) {
        self.state.set(State::Complete);
        self.watch.request_is_whole();
        self.copies.borrow_mut().drain(..).for_each(|copied| copied.end());
        self.ended.set(Some(Instant::now()));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let passes = |frame: &Frame<Bytes>| self.trailers.get() || !frame.is_trailers();
        let frame = loop {
            match ready!(Pin::new(&mut *self.incoming.borrow_mut()).poll_frame(cx)) {
                Some(Ok(frame)) if !passes(&frame) => {}
                frame => break frame,
            }
        };
        match &frame {
            None => self.set_complete(),
            Some(Err(e)) => {
                self.state.set(if is_malformed(e) { State::Malformed } else { State::Broken });
                self.copies.borrow_mut().drain(..).for_each(|copied| copied.break_off());
            }
            Some(Ok(frame)) => self.keep(frame),
        }
        if self.state.get() == State::UnderWay && self.incoming.borrow().is_end_stream() {
            self.set_complete();
        }
        Poll::Ready(frame)
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        self.watch.stir();
        let mut kept = self.kept.borrow_mut();
        if let Some(data) = frame.data_ref() {
            self.copies.borrow().iter().for_each(|copied| copied.add(data));
            if let Some(messages) = &self.messages {
                messages.borrow_mut().follow(data);
            }
            self.received.set(self.received.get() + data.len() as u64);
            kept.room = kept.room.and_then(|room| room.checked_sub(data.len()));
        }
        let Kept { room, data, trailers, lost } = &mut *kept;
        match room {
            // Who reads now has sent all that was kept.
            None => {
                data.clear();
                *lost = true;
            }
            Some(_) => {
                data.extend(frame.data_ref().cloned());
                *trailers = frame.trailers_ref().cloned();
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.copies.get_mut().drain(..).for_each(|copied| copied.break_off());
    }
}

impl Attempt {
    /// What an earlier attempt has read and this one has not sent yet.
    fn next_kept(&mut self, upload: &Upload) -> Option<Frame<Bytes>> {
        let kept = upload.kept.borrow();
        if let Some(data) = kept.data.get(self.position) {
            self.position += 1;
            return Some(Frame::data(data.clone()));
        }
        let trailers = kept.trailers.clone().filter(|_| !self.trailers_sent)?;
        self.trailers_sent = true;
        Some(Frame::trailers(trailers))
    }
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let upload = self.upload.clone();
        if upload.attempt.get() != self.attempt {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        if let Some(frame) = self.next_kept(&upload) {
            return Poll::Ready(Some(Ok(frame)));
        }
        match upload.state.get() {
            State::UnderWay => {}
            State::Complete => return Poll::Ready(None),
            State::Broken | State::Malformed => return Poll::Ready(Some(Err(UploadError::Superseded))),
        }
        let frame = ready!(upload.poll_incoming(cx));
        if upload.kept.borrow().room.is_some() {
            match frame.as_ref().and_then(|f| f.as_ref().ok()) {
                Some(frame) if frame.is_data() => self.position += 1,
                Some(_) => self.trailers_sent = true,
                None => {}
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Downstream)))
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.upload.kept.borrow();
        let sent = self.position >= kept.data.len() && (self.trailers_sent || kept.trailers.is_none());
        sent && self.upload.state.get() == State::Complete
    }

    fn size_hint(&self) -> SizeHint {
        let upload = &self.upload;
        let (rest, sent) = (upload.incoming.borrow().size_hint(), self.position);
        let kept = upload.kept.borrow();
        let waiting: usize = kept.data.iter().skip(sent).map(Bytes::len).sum();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest + waiting as u64),
            None => rest,
        }
    }
}

/// Whether a body is not made as it should be, rather than broken off.
fn is_malformed(e: &hyper::Error) -> bool {
    let cause = std::error::Error::source(e).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}
