//! The arguments of a call that are the same for every record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The fixed arguments of a call. The message with the call names their forms and lengths; their bytes are
/// sent before it, in frames of their own, and are never copied into the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct FixedArgs {
    /// One entry for each parameter, by position. The record fills the parameters without an argument.
    args: Vec<Option<FixedArg>>,
    /// The bytes of all arguments, in the order of the parameters.
    #[serde(skip)]
    bytes: Arc<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct FixedArg {
    form: FixedForm,
    len: usize,
}

/// How the bytes of a fixed argument are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum FixedForm {
    /// They are the value, of type `list<u8>` or `string`.
    Raw,
    /// They are the value's WAVE text.
    Wave,
}

impl FixedArgs {
    /// The most bytes of all fixed arguments of one call. Each worker holds them, so that a larger number
    /// would need more memory than workers are allowed.
    pub(crate) const LEN_MAX: usize = 256 << 20;

    /// Adds the argument of the next parameter. `None`: the record fills that parameter.
    pub(crate) fn push(&mut self, arg: Option<(FixedForm, Vec<u8>)>) {
        self.args.push(arg.as_ref().map(|(form, bytes)| FixedArg { form: *form, len: bytes.len() }));
        match arg {
            // Usually there is one long argument: it is not copied.
            Some((_, bytes)) if self.bytes.is_empty() => self.bytes = Arc::new(bytes),
            Some((_, bytes)) => Arc::make_mut(&mut self.bytes).extend_from_slice(&bytes),
            None => {}
        }
    }

    /// The argument of each parameter, by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<(FixedForm, &[u8])>> {
        let mut rest = &self.bytes[..];
        self.args.iter().map(move |arg| {
            let FixedArg { form, len } = (*arg)?;
            let (bytes, behind) = rest.split_at(len);
            rest = behind;
            Some((form, bytes))
        })
    }

    /// Whether the parameter at this position has an argument.
    pub(crate) fn is_given(&self, position: usize) -> bool {
        self.args.get(position).is_some_and(Option::is_some)
    }

    /// Whether no parameter has an argument.
    #[cfg(feature = "worker")]
    pub(crate) fn is_empty(&self) -> bool {
        self.args.iter().all(Option::is_none)
    }

    /// The bytes of all arguments.
    pub(crate) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.bytes
    }

    /// Sets the bytes, which came before the message with this value. `false`: they are not those of the
    /// arguments.
    #[cfg(feature = "worker")]
    #[must_use]
    pub(crate) fn attach(&mut self, come: FixedPieces) -> bool {
        let FixedPieces(bytes) = come;
        let mut lens = self.args.iter().flatten().map(|arg| arg.len);
        let is_whole = lens.try_fold(0usize, usize::checked_add) == Some(bytes.len());
        if is_whole {
            self.bytes = Arc::new(bytes);
        }
        is_whole
    }
}

/// The bytes of fixed arguments that have come before their message.
#[cfg(feature = "worker")]
#[derive(Debug, Default)]
pub(crate) struct FixedPieces(Vec<u8>);

#[cfg(feature = "worker")]
impl FixedPieces {
    /// Takes the next piece. `false`: no call has arguments of that many bytes.
    #[must_use]
    pub(crate) fn add(&mut self, piece: &[u8]) -> bool {
        let fits = self.0.len() + piece.len() <= FixedArgs::LEN_MAX;
        if fits {
            self.0.extend_from_slice(piece);
        }
        fits
    }
}

#[cfg(feature = "worker")]
#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[&[u8]]) -> FixedPieces {
        let mut come = FixedPieces::default();
        assert!(pieces.iter().all(|piece| come.add(piece)));
        come
    }

    #[test]
    fn a_worker_takes_no_more_pieces_than_a_call_may_have() {
        let piece = vec![0; FixedArgs::LEN_MAX / 4];
        let mut come = pieces(&[&piece[..]; 4]);
        assert!(!come.add(b"x") && come.add(b""));
    }

    #[test]
    fn arguments_are_whole_again_once_their_bytes_are_attached() {
        let mut fixed = FixedArgs::default();
        fixed.push(Some((FixedForm::Raw, b"abc".to_vec())));
        fixed.push(None);
        fixed.push(Some((FixedForm::Wave, b"7".to_vec())));
        let message = serde_json::to_string(&fixed).unwrap();
        assert!(!message.contains("abc"), "{message}");
        let mut come: FixedArgs = serde_json::from_str(&message).unwrap();
        assert!(!come.attach(pieces(&[b"abc"])) && !come.attach(pieces(&[b"abc", b"78"])));
        assert!(come.attach(pieces(&[b"a", b"bc7"])));
        assert_eq!(come, fixed);
        let args: Vec<_> = come.iter().collect();
        assert_eq!(args, [Some((FixedForm::Raw, &b"abc"[..])), None, Some((FixedForm::Wave, b"7"))]);
        assert!(come.is_given(0) && !come.is_given(1) && !come.is_given(3) && !come.is_empty());
    }
}
