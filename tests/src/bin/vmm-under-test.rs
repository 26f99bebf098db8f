//! The program as users run it. Cargo tells tests where the binaries of their own
//! package are, and no others; `vmm`'s own `main` is the same line.

fn main() -> std::process::ExitCode {
    vmm::cli::main()
}
