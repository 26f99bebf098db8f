//! The `vmm` binary; all of it is [`vmm::cli`].

fn main() -> std::process::ExitCode {
    vmm::cli::main()
}
