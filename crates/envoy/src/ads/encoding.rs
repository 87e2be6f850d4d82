//! Responses on the wire.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::Resource;

/// Pieces are about this long, in bytes: worth a write, and little to hold for a client that does not read.
const PIECE: usize = 32 << 10;

/// An encoded response, made piece by piece as the transport takes it, so that a response to a thousand clients is not
/// there a thousand times. The resources follow the other fields, which protobuf leaves to the writer.
#[derive(Debug)]
pub struct Encoding {
    head: BytesMut,
    resources: std::vec::IntoIter<Arc<Resource>>,
    form: Form,
    length: usize,
}

/// How a variant of the protocol wraps a resource.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// As `envoy.service.discovery.v3.Resource` in field 2.
    Delta,
    /// As `google.protobuf.Any` in field 2.
    World,
}

impl Encoding {
    pub(super) fn new(head: BytesMut, resources: Vec<Arc<Resource>>, form: Form) -> Encoding {
        let length = head.len() + resources.iter().map(|resource| form.length(resource)).sum::<usize>();
        Encoding { head, resources: resources.into_iter(), form, length }
    }

    /// The length of the whole message, in bytes.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Iterator for Encoding {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = std::mem::take(&mut self.head);
        while piece.len() < PIECE {
            let Some(resource) = self.resources.next() else { break };
            piece.reserve(self.form.length(&resource).max(PIECE.saturating_sub(piece.len())));
            self.form.encode(&resource, &mut piece);
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }
}

impl Form {
    fn length(self, resource: &Resource) -> usize {
        field_length(match self {
            Form::Delta => entry_length(resource),
            Form::World => resource.any.len(),
        })
    }

    fn encode(self, resource: &Resource, buffer: &mut BytesMut) {
        match self {
            Form::Delta => {
                encode_prefix(2, entry_length(resource), buffer);
                encode_bytes(1, resource.version.as_bytes(), buffer);
                encode_bytes(2, &resource.any, buffer);
                encode_bytes(3, resource.name.as_bytes(), buffer);
            }
            Form::World => encode_bytes(2, &resource.any, buffer),
        }
    }
}

fn entry_length(resource: &Resource) -> usize {
    [resource.version.len(), resource.any.len(), resource.name.len()].into_iter().map(field_length).sum()
}

/// The length of a length-delimited field with a number below 16.
fn field_length(value: usize) -> usize {
    1 + encoded_len_varint(value as u64) + value
}

fn encode_prefix(tag: u32, length: usize, buffer: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

/// Appends a length-delimited field.
pub(super) fn encode_bytes(tag: u32, value: &[u8], buffer: &mut BytesMut) {
    encode_prefix(tag, value.len(), buffer);
    buffer.put_slice(value);
}
