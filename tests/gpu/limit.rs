//! How much memory the emulated device has, which is the host's: an allocator counts what each thread takes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes allocated less those freed by this thread.
    static LIVE: Cell<usize> = const { Cell::new(0) };
    /// The most there may be for the device.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Whether this thread gives nothing back: what is recorded goes on using it.
    pub static KEEP_MEMORY: Cell<bool> = const { Cell::new(false) };
    /// The most the device was asked for.
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// What a thread of its own comes to on a device with so many bytes, and the most it asked for.
pub fn within<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> (T, usize) {
    let work = || {
        LIMIT.set(bytes);
        (work(), MOST.get())
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Whether the device has so many bytes more.
pub fn has(bytes: usize) -> bool {
    let asked = LIVE.get() + bytes;
    MOST.set(MOST.get().max(asked));
    asked <= LIMIT.get()
}

// SAFETY: the system's allocator does the work; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get() + layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // What another thread has allocated was never counted here.
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        if !KEEP_MEMORY.get() {
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(place, layout) }
        }
    }
}
