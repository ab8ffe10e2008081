//! What a connection may do.

use std::time::Duration;

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open at a time.
    pub connections: usize,
    /// Requests of one connection of HTTP/2.
    pub streams: Streams,
    /// For the first request's head, from the connection's start, and for further ones of HTTP/1 from their first byte.
    pub head_wait: Duration,
    /// Without a request.
    pub idle_wait: Duration,
    /// How old one gets.
    pub age: Option<Age>,
}

/// Requests of one connection of HTTP/2. What they send ahead of being read is memory that nobody accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// At a time; further ones wait in their sender.
    pub at_once: u32,
    /// What each of them may send ahead; a frame of it is a quarter of that.
    pub window_bytes: u32,
}

/// How old a connection gets: where there is a load balancer, new ones find new instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Then it takes no further requests; up to a tenth more or less, so that not all end at once.
    pub max: Duration,
    /// For those under way.
    pub grace: Duration,
}

/// Bytes a request may send ahead of being read.
const WINDOW_BYTES_MIN: u32 = 64 * 1024;
/// The same where there is much memory: an SDK's request comes at once then, and nobody asks for more of it four times.
const WINDOW_BYTES_MAX: u32 = 256 * 1024;
/// A window is so small a part of the memory …
const WINDOW_SHARE: u64 = 16 * 1024;
/// … and those of a connection are.
const CONNECTION_SHARE: u64 = 128;
/// Requests of one connection at a time, where nothing else is said.
const STREAMS_USUAL: u32 = 32;
/// The same where there is little memory.
const STREAMS_LEAST: u32 = 4;
/// A frame is read whole before its request gets on: of a slow one the first bytes count for nothing until its last ones
/// are there, and what there is of it nobody accounts for. 16 KiB is the least that HTTP/2 allows.
const FRAME_SHARE: u32 = 4;
/// Of a request's head. Tokens with many claims have some KiB.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Between pings that find out who is gone without a word. Others may ping us as often as they like.
const PING_EVERY: Duration = Duration::from_mins(1);
/// For the answer to a ping.
const PONG_WAIT: Duration = Duration::from_secs(20);

impl Streams {
    /// Where there is next to no memory for them.
    pub const LEAST: Self = Self { at_once: STREAMS_LEAST, window_bytes: WINDOW_BYTES_MIN };

    /// Where so many bytes of memory may be used.
    pub fn within(memory_bytes: u64) -> Self {
        let part = |share| u32::try_from(memory_bytes / share).unwrap_or(u32::MAX);
        let window_bytes = part(WINDOW_SHARE).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        let at_once = part(CONNECTION_SHARE) / window_bytes;
        Self { at_once: at_once.clamp(STREAMS_LEAST, STREAMS_USUAL), window_bytes }
    }

    /// Room for all of them: otherwise requests that wait for their turn take the window of those that have it, and
    /// nobody gets on until the waiting ones are refused.
    fn connection_window_bytes(self) -> u32 {
        self.at_once.saturating_mul(self.window_bytes)
    }
}

impl Limits {
    pub(super) fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        // Where gRPC alone is spoken, too: who speaks HTTP/1 there is told what is wrong.
        builder
            .http1()
            .timer(TokioTimer::new())
            // It would run for idle connections, too.
            .header_read_timeout(None)
            .max_buf_size(usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.streams.window_bytes)
            .initial_connection_window_size(self.streams.connection_window_bytes())
            .max_frame_size(self.streams.window_bytes / FRAME_SHARE)
            .max_concurrent_streams(self.streams.at_once)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WAIT);
        builder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_their_windows_grow_with_the_memory_between_two_bounds() {
        const MIB: u64 = 1024 * 1024;
        let of = |memory_bytes| {
            let Streams { at_once, window_bytes } = Streams::within(memory_bytes);
            (at_once, window_bytes / 1024)
        };
        for (memory_bytes, streams) in [
            (0, (4, 64)),
            (32 * MIB, (4, 64)),
            (64 * MIB, (8, 64)),
            (256 * MIB, (32, 64)),
            (1024 * MIB, (32, 64)),
            (2048 * MIB, (32, 128)),
            (4096 * MIB, (32, 256)),
            (u64::MAX, (32, 256)),
        ] {
            assert_eq!(of(memory_bytes), streams, "{memory_bytes}");
        }
    }
}
