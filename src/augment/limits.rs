//! Checks of parameters that several augmentations have.

use super::color_jitter::Amount;

/// `[low, high]`, in this order.
pub fn ordered<T: PartialOrd>([low, high]: &[T; 2], _: &()) -> garde::Result {
    if low <= high { Ok(()) } else { Err(garde::Error::new("must be [low, high]")) }
}

/// An amount to both sides of none, or `[low, high]`.
pub fn span(amount: &Amount, context: &()) -> garde::Result {
    match amount {
        Amount::Around(x) if *x < 0.0 => Err(garde::Error::new("lower than 0")),
        Amount::Around(_) => Ok(()),
        Amount::Between(ends) => ordered(ends, context),
    }
}
