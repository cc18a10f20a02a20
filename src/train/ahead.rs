//! Work on one thing while the next is made ready, so that neither host nor device waits for the other.

use crate::error::Result;

/// Things one after the other, each made ready while there is work on the one before.
pub struct Ahead<I: Iterator> {
    rest: I,
    ready: Option<I::Item>,
}

impl<T: Send, I: Iterator<Item = Result<T>> + Send> Ahead<I> {
    /// Of what `things` makes, the first of which it makes now.
    pub fn new(mut things: I) -> Self {
        Self { ready: things.next(), rest: things }
    }

    /// The next thing; `None` behind the last.
    pub fn take(&mut self) -> Result<Option<T>> {
        self.ready.take().transpose()
    }

    /// Does the work on what has been taken, while the next thing is made ready.
    pub fn meanwhile<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        let (result, ready) = rayon::join(work, || self.rest.next());
        self.ready = ready;
        result
    }
}

/// Hands `work` what `prepare` makes of 0, 1, .., one after the other; the next one is prepared meanwhile.
pub fn ahead<T: Send>(
    count: usize,
    prepare: impl Fn(usize) -> Result<T> + Sync + Send,
    mut work: impl FnMut(usize, T) -> Result<()> + Send,
) -> Result<()> {
    let mut things = Ahead::new((0..count).map(prepare));
    for place in 0..count {
        let Some(ready) = things.take()? else { break };
        things.meanwhile(|| work(place, ready))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn things_come_in_order_and_mistakes_end_it() {
        let mut seen = Vec::new();
        let collect = |place, square| {
            seen.push((place, square));
            Ok(())
        };
        ahead(3, |place| Ok(place * place), collect).unwrap();
        assert_eq!(seen, [(0, 0), (1, 1), (2, 4)]);
        ahead(0, |_| Err::<(), _>(Error::user("nothing to prepare")), |_, ()| Ok(())).unwrap();
        let broken = |place| if place == 2 { Err(Error::user("broken")) } else { Ok(place) };
        let mut worked = 0;
        let count = |_, _| {
            worked += 1;
            Ok(())
        };
        assert!(ahead(9, broken, count).unwrap_err().to_string().contains("broken"));
        assert_eq!(worked, 2);
        let refused = |place, _| if place == 1 { Err(Error::user("refused")) } else { Ok(()) };
        assert!(ahead(9, Ok, refused).unwrap_err().to_string().contains("refused"));
    }
}
