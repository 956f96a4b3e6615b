//! Arrow IPC streams of events of one kind.

use crate::error::{Code, DecodeErrors};
use crate::{Decoded, Options, refused};

pub(crate) fn decode(_bytes: &[u8], _options: &Options) -> Result<Decoded, DecodeErrors> {
    Err(refused(
        "type",
        Code::BadArrow,
        "Arrow is not read yet".to_owned(),
    ))
}
