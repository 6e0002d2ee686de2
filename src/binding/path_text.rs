//! Paths as JavaScript's strings. A byte that is not UTF-8 is a lone surrogate there, `U+DC80` to `U+DCFF` for the
//! bytes `0x80` to `0xff`, so that each name on the disk has a string of its own and each such string leads back to it.
//! `lib/support/byte-paths.js` does the same with the `Buffer`s that users give.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use napi::bindgen_prelude::{
    FromNapiValue, Result, ToNapiValue, TypeName, ValidateNapiValue, ValueType,
};
use napi::{JsString, JsValue, sys};

/// A path that crosses the border.
pub struct NativePath(pub(super) PathBuf);

impl From<NativePath> for PathBuf {
    fn from(path: NativePath) -> PathBuf {
        path.0
    }
}

impl From<PathBuf> for NativePath {
    fn from(path: PathBuf) -> NativePath {
        NativePath(path)
    }
}

impl From<OsString> for NativePath {
    fn from(name: OsString) -> NativePath {
        NativePath(name.into())
    }
}

impl AsRef<Path> for NativePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl TypeName for NativePath {
    fn type_name() -> &'static str {
        "String"
    }

    fn value_type() -> ValueType {
        ValueType::String
    }
}

impl ValidateNapiValue for NativePath {}

impl FromNapiValue for NativePath {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<NativePath> {
        // SAFETY: the caller's promise.
        let text = unsafe { String::from_napi_value(env, value)? };
        // What Node puts in the place of a lone surrogate. A name may have that character itself.
        if !text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(NativePath(text.into()));
        }
        // SAFETY: the caller's promise; it is a string, as has just been seen.
        let units = unsafe { JsString::from_napi_value(env, value)? }.into_utf16()?;
        let units = units.as_slice();
        // It ends with a NUL, which no path has.
        Ok(NativePath(decode(units.strip_suffix(&[0]).unwrap_or(units))))
    }
}

impl ToNapiValue for NativePath {
    unsafe fn to_napi_value(env: sys::napi_env, path: NativePath) -> Result<sys::napi_value> {
        match path.0.into_os_string().into_string() {
            // SAFETY: the caller's promise.
            Ok(text) => unsafe { String::to_napi_value(env, text) },
            Err(name) => {
                let environment = napi::Env::from_raw(env);
                Ok(environment.create_string_utf16(encode(&name))?.raw())
            }
        }
    }
}

#[cfg(unix)]
fn decode(units: &[u16]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        let lone = unit.map_err(|lone| lone.unpaired_surrogate());
        let character = match lone {
            Ok(character) => character,
            Err(unit @ 0xdc80..=0xdcff) => {
                bytes.extend(unit.to_le_bytes().first());
                continue;
            }
            // It stands for no byte. Node writes the same.
            Err(_) => char::REPLACEMENT_CHARACTER,
        };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    OsString::from_vec(bytes).into()
}

#[cfg(unix)]
fn encode(name: &std::ffi::OsStr) -> Vec<u16> {
    use std::os::unix::ffi::OsStrExt;
    let mut units = Vec::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        units.extend(chunk.valid().encode_utf16());
        units.extend(chunk.invalid().iter().map(|&byte| 0xdc00 | u16::from(byte)));
    }
    units
}

/// Names are UTF-16 there, and need not be well-formed.
#[cfg(windows)]
fn decode(units: &[u16]) -> PathBuf {
    use std::os::windows::ffi::OsStringExt;
    OsString::from_wide(units).into()
}

#[cfg(windows)]
fn encode(name: &std::ffi::OsStr) -> Vec<u16> {
    use std::os::windows::ffi::OsStrExt;
    name.encode_wide().collect()
}
