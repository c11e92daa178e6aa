//! Linker settings of a Python extension: on macOS its symbols of Python's are found when it is loaded.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
