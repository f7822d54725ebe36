//! The kubectl plugin. Everything is in the library.

fn main() -> std::process::ExitCode {
    kubectl_bifrost::run::main()
}
