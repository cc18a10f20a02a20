use std::process::ExitCode;

/// Keeps pages it has touched: training allocates and frees the same sizes every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runner::cli::main()
}
