//! The GPU side of every operation without a GPU: the kernels run on the host, thread by thread, and must give what the
//! CPU side gives.

mod augment;
mod check;
mod conv;
mod device;
mod elementwise;
mod emulator;
mod linear;
mod norm;
mod optim;
