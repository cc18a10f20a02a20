//! Vectorization without intrinsics.

/// Compiles a function for AVX-512, for AVX2 with FMA and for any processor, and calls the best one this machine runs.
/// The compiler vectorizes its loops; all it calls must be `#[inline(always)]` to be compiled along, which closures
/// cannot promise.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $return:ty)? $body:block)+) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$generic: $bound>)? ($($arg: $type),*) $(-> $return)? {
            #[inline(always)]
            fn plain $(<$generic: $bound>)? ($($arg: $type),*) $(-> $return)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $return)? {
                plain $(::<$generic>)? ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $return)? {
                plain $(::<$generic>)? ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("fma") {
                    // SAFETY: the processor has these features.
                    return unsafe { avx512 $(::<$generic>)? ($($arg),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: the processor has these features.
                    return unsafe { avx2 $(::<$generic>)? ($($arg),*) };
                }
            }
            plain $(::<$generic>)? ($($arg),*)
        }
    )+};
}
pub(crate) use vectorized;
