//! Checks every tensor of a model file.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hearth_proto::Failure;
use llama_cpp_sys_2 as sys;

use super::file::{check_header, invalid};

/// Has llama.cpp check the values of every tensor (for example a block scale of NaN,
/// which an ordinary load does not detect), then frees the model. Needs a started
/// [`super::Runtime`], which the argument proves.
///
/// # Errors
/// `ModelNotFound` and `Io` where it cannot be opened, else `ModelInvalid`.
pub fn check_tensors(_: &super::Runtime, path: &Path) -> Result<(), Failure> {
    check_header(path)?;
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| invalid(path, "its name holds a zero byte"))?;
    _ = super::log::take_errors();
    // SAFETY: the name is a string that outlives the call, the parameters are
    // llama.cpp's own, and the model is freed once, here.
    let loaded = unsafe {
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = 0;
        params.check_tensors = true;
        let model = sys::llama_model_load_from_file(name.as_ptr(), params);
        if !model.is_null() {
            sys::llama_model_free(model);
        }
        !model.is_null()
    };
    if loaded {
        Ok(())
    } else {
        Err(invalid(path, &super::log::take_errors().join("; ")))
    }
}
