//! The bytes of a request as they come, in memory that was taken from the budget before.

use std::io;

use bytes::Bytes;

use super::{door::DoorError, held::Held};

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    bytes: Vec<u8>,
    /// All of them, where they came in one piece: it stays where it is.
    whole: Option<Bytes>,
    /// More are refused.
    bytes_max: usize,
    /// More are not to be expected: it does not grow beyond on its own.
    expected: usize,
    held: Held,
    /// Of who unpacks them.
    beside_bytes: u64,
    /// Why the last bytes were not taken, for [`io::Write`] has no word for it.
    refusal: Option<DoorError>,
}

impl Room {
    /// For so many bytes; `announced` is the length that a sender tells, if it does.
    pub(super) fn new(held: Held, bytes_max: usize, announced: Option<u64>) -> Self {
        let announced = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let expected = announced.unwrap_or(bytes_max).min(bytes_max);
        let (bytes, whole) = (Vec::new(), None);
        Self { bytes, whole, bytes_max, expected, held, beside_bytes: 0, refusal: None }
    }

    /// Who unpacks them holds this much now.
    pub(super) fn beside(&mut self, bytes: u64) -> Result<(), DoorError> {
        self.beside_bytes = bytes;
        self.hold(self.bytes.capacity())
    }

    /// Takes bytes that may be all there are, if there is room.
    pub(super) fn put_piece(&mut self, piece: Bytes) -> Result<(), DoorError> {
        if self.bytes.is_empty() && self.whole.is_none() && piece.len() == self.expected {
            self.hold(piece.len())?;
            self.whole = Some(piece);
            return Ok(());
        }
        self.put(&piece)
    }

    /// Takes bytes, if there is room.
    pub(super) fn put(&mut self, data: &[u8]) -> Result<(), DoorError> {
        if let Some(whole) = self.whole.take() {
            self.copy(&whole)?;
        }
        self.copy(data)
    }

    fn copy(&mut self, data: &[u8]) -> Result<(), DoorError> {
        let len = self.bytes.len().saturating_add(data.len());
        if len > self.bytes_max {
            return Err(DoorError::TooLarge(number(self.bytes_max)));
        }
        if len > self.bytes.capacity() {
            self.grow(len)?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// To twice its size, for what grows in small steps is copied again and again; to less where memory is short.
    fn grow(&mut self, len: usize) -> Result<(), DoorError> {
        let twice = self.bytes.capacity().saturating_mul(2);
        let wishes = [twice, len + len / 8].map(|wish| wish.min(self.expected).max(len));
        let capacity = match wishes.into_iter().find(|&wish| self.hold(wish).is_ok()) {
            Some(capacity) => capacity,
            None => self.hold(len).map(|()| len)?,
        };
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    fn hold(&mut self, capacity: usize) -> Result<(), DoorError> {
        let needed = number(capacity).saturating_add(self.beside_bytes);
        let limit = self.held.limit_bytes();
        if needed > limit {
            return Err(DoorError::TooLarge(limit));
        }
        if needed > self.held.bytes() {
            self.held.grow(needed - self.held.bytes())?;
        }
        Ok(())
    }

    /// Why a write failed.
    pub(super) fn why(&mut self, error: &io::Error) -> DoorError {
        self.refusal.take().unwrap_or_else(|| DoorError::Body(error.to_string()))
    }

    /// All bytes, with exactly their memory.
    pub(super) fn end(mut self) -> (Bytes, Held) {
        if let Some(whole) = self.whole {
            self.held.resize(number(whole.len()));
            return (whole, self.held);
        }
        self.held.resize(number(self.bytes.capacity()));
        (self.bytes.into(), self.held)
    }
}

impl io::Write for Room {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.put(data).map_err(|refusal| {
            self.refusal = Some(refusal);
            io::Error::other("no room")
        })?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn number(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Budget, Stage};

    fn room(limit: u64, bytes_max: usize, announced: Option<u64>) -> Room {
        let held = Budget::new(limit).reserve(Stage::Receiving, 0).unwrap();
        Room::new(held.into(), bytes_max, announced)
    }

    #[test]
    fn no_more_is_taken_than_needed() {
        // Twice 60 would not fit.
        let mut known = room(100, 1000, Some(90));
        for _ in 0..9 {
            known.put(&[7; 10]).unwrap();
        }
        let (bytes, held) = known.end();
        assert_eq!((bytes.len(), held.bytes()), (90, 90));
        let mut unknown = room(100, 1000, None);
        for _ in 0..10 {
            unknown.put(&[7; 10]).unwrap();
        }
        assert_eq!(unknown.end().1.bytes(), 100);
    }

    #[test]
    fn what_comes_in_one_piece_stays_where_it_is() {
        let piece = Bytes::from(vec![7; 90]);
        let mut alone = room(100, 1000, Some(90));
        alone.put_piece(piece.clone()).unwrap();
        let (bytes, held) = alone.end();
        assert_eq!((bytes.as_ptr(), bytes.len(), held.bytes()), (piece.as_ptr(), 90, 90));
        // It was not alone, after all.
        let mut followed = room(1000, 1000, Some(90));
        followed.put_piece(piece.clone()).unwrap();
        followed.put_piece(Bytes::from_static(b"more")).unwrap();
        assert_eq!(followed.end().0, [&piece[..], b"more"].concat());
        assert!(matches!(room(80, 80, None).put_piece(piece), Err(DoorError::TooLarge(80))));
    }

    #[test]
    fn what_never_fits_is_refused_for_good() {
        let mut small = room(100, 1000, None);
        assert!(matches!(small.put(&[7; 101]), Err(DoorError::TooLarge(100))));
        let mut limited = room(100, 50, None);
        assert!(matches!(limited.put(&[7; 51]), Err(DoorError::TooLarge(50))));
        let mut crowded = room(100, 1000, None);
        crowded.beside(50).unwrap();
        assert!(matches!(crowded.put(&[7; 51]), Err(DoorError::TooLarge(100))));
        let budget = Budget::new(100);
        let _others = budget.reserve(Stage::Buffer, 50).unwrap();
        let mut later = Room::new(budget.reserve(Stage::Receiving, 0).unwrap().into(), 1000, None);
        assert!(matches!(later.put(&[7; 51]), Err(DoorError::Refused(_))));
        assert_eq!(budget.used_bytes(), 50);
    }
}
