//! Work on one thing while the next is made ready, so that neither host nor device waits for the other.

use crate::error::Result;

/// Hands `work` what `prepare` makes of 0, 1, .., one after the other; the next one is prepared meanwhile.
pub fn ahead<T: Send>(
    count: usize,
    prepare: impl Fn(usize) -> Result<T> + Sync,
    mut work: impl FnMut(usize, T) -> Result<()> + Send,
) -> Result<()> {
    let prepare = |place: usize| (place < count).then(|| prepare(place)).transpose();
    let (mut place, mut next) = (0, prepare(0)?);
    while let Some(ready) = next.take() {
        let (worked, prepared) = rayon::join(|| work(place, ready), || prepare(place + 1));
        worked?;
        next = prepared?;
        place += 1;
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
