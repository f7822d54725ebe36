//! The allocator's one habit that needs help: mimalloc gives memory back to the system only while somebody allocates, so that an idle
//! gateway would keep what a burst of large bodies took.

/// Gives the calling thread's unused memory back to the system. Cheap where there is none.
pub fn give_back_unused() {
    #[expect(unsafe_code, reason = "a call into the allocator, which has no safe interface for it")]
    // SAFETY: the function may be called at any time on any thread; it frees only what nothing uses.
    unsafe {
        libmimalloc_sys::mi_collect(false);
    }
}
