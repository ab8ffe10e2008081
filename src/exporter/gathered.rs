//! Connections whose writes go out together. h2 writes each frame by itself, and frames to most servers hold 16 KiB: the way
//! of one more through the system costs three times what copying it does.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use tower::{BoxError, Service};

/// Written at once. The system's own pieces have 64 KiB, with twice as much per call no more is saved.
const GATHERED_BYTES: usize = 256 * 1024;

/// What is written to it waits until the writer has nothing more to write: until it flushes a second time, for h2 flushes
/// behind each frame, and once more at the end. A writer that flushed once only is woken for it.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    inner: T,
    /// From `sent` on it waits.
    bytes: Vec<u8>,
    sent: usize,
    /// More came since the last flush.
    is_growing: bool,
}

impl<T: Write + Unpin> Gathered<T> {
    fn new(inner: T) -> Self {
        Self { inner, bytes: Vec::new(), sent: 0, is_growing: false }
    }

    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes what there is room for.
    fn take(&mut self, parts: &[IoSlice<'_>]) -> usize {
        // All of it once: the memory is there from the write before.
        self.bytes.reserve_exact(GATHERED_BYTES - self.bytes.len());
        let before = self.bytes.len();
        for part in parts {
            let room = GATHERED_BYTES - self.bytes.len();
            self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
        }
        self.bytes.len() - before
    }
}

impl<T: Write + Unpin> Write for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() == GATHERED_BYTES {
            ready!(self.send(context))?;
        }
        self.is_growing = true;
        Poll::Ready(Ok(self.take(parts)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_growing {
            self.is_growing = false;
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.send(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<T: Read + Unpin> Read for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

/// Connects as what it is made of, and gathers what is written.
#[derive(Debug, Clone)]
pub(super) struct Gathering<C>(pub(super) C);

impl<C> Service<Uri> for Gathering<C>
where
    C: Service<Uri, Response: Write + Unpin, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Gathered<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { connecting.await.map(Gathered::new).map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Wake, Waker},
    };

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes at a time, each other time nothing; with what was written by each call.
    struct Slow {
        at_most: usize,
        is_full: bool,
        writes: Vec<Vec<u8>>,
        is_closed: bool,
    }

    impl Write for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_full = !self.is_full && self.at_most < GATHERED_BYTES;
            if self.is_full {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = bytes.len().min(self.at_most);
            self.writes.push(bytes[..count].to_vec());
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_closed = true;
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn gathered(at_most: usize) -> Gathered<Slow> {
        Gathered::new(Slow { at_most, is_full: false, writes: Vec::new(), is_closed: false })
    }

    /// Writes all of it, as h2 does: the head of a frame and the frame, then a flush.
    fn write_frame(gathered: &mut Gathered<Slow>, context: &mut Context<'_>, frame: &[u8]) {
        let mut left = frame;
        while !left.is_empty() {
            let (head, rest) = left.split_at(left.len().min(9));
            let parts = [IoSlice::new(head), IoSlice::new(rest)];
            if let Poll::Ready(count) =
                Pin::new(&mut *gathered).poll_write_vectored(context, &parts)
            {
                left = &left[count.expect("nothing fails")..];
            }
        }
        flush(gathered, context);
    }

    fn flush(gathered: &mut Gathered<Slow>, context: &mut Context<'_>) {
        while Pin::new(&mut *gathered).poll_flush(context).is_pending() {}
    }

    #[test]
    fn frames_of_one_turn_are_one_write() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = &mut Context::from_waker(&waker);
        let mut gathered = gathered(GATHERED_BYTES);
        let frames = [vec![1; 16_393], vec![2; 16_393], vec![3; 40]];
        for frame in &frames {
            write_frame(&mut gathered, context, frame);
        }
        assert_eq!(gathered.inner.writes.len(), 0);
        // Whoever flushes no more is woken to.
        assert!(woken.0.load(Relaxed) > 0);
        flush(&mut gathered, context);
        assert_eq!(gathered.inner.writes, [frames.concat()]);
        let woken_before = woken.0.load(Relaxed);
        flush(&mut gathered, context);
        assert_eq!((gathered.inner.writes.len(), woken.0.load(Relaxed)), (1, woken_before));
    }

    #[test]
    fn what_waits_is_written_before_the_end() {
        let context = &mut Context::from_waker(Waker::noop());
        let mut gathered = gathered(7);
        write_frame(&mut gathered, context, b"the last words");
        while Pin::new(&mut gathered).poll_shutdown(context).is_pending() {}
        assert!(gathered.inner.is_closed);
        assert_eq!(gathered.inner.writes.concat(), b"the last words");
    }

    proptest! {
        #[test]
        fn all_comes_out_in_order(
            frames in prop::collection::vec((0_usize..80_000, any::<bool>()), 0..20),
            at_most in prop_oneof![1_000_usize..100_000, Just(GATHERED_BYTES)],
        ) {
            let context = &mut Context::from_waker(Waker::noop());
            let mut gathered = gathered(at_most);
            let mut all = Vec::new();
            for (number, (len, is_last)) in frames.iter().enumerate() {
                let frame: Vec<u8> = (0..=250).cycle().skip(number).take(*len).collect();
                write_frame(&mut gathered, context, &frame);
                all.extend(frame);
                if *is_last {
                    flush(&mut gathered, context);
                    prop_assert_eq!(gathered.inner.writes.concat().len(), all.len());
                }
            }
            flush(&mut gathered, context);
            flush(&mut gathered, context);
            prop_assert!(gathered.inner.writes.concat() == all);
            prop_assert!(gathered.bytes.capacity() <= GATHERED_BYTES);
        }
    }
}
