//! How the types of header fields read and write, and the macros that make headers of them.

use crate::protocol::ext_fields::{ExtFields, FieldError};

/// A type that a header field can have.
pub(super) trait Field: Sized {
    /// Reads the field `name`.
    fn read(ext: &ExtFields, name: &str) -> Result<Self, FieldError>;
    /// Writes it; what is absent is not written.
    fn write(&self, name: &str, ext: &mut ExtFields);
}

macro_rules! parsed_fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            fn read(ext: &ExtFields, name: &str) -> Result<Self, FieldError> {
                ext.required(name)
            }

            fn write(&self, name: &str, ext: &mut ExtFields) {
                ext.push(name, self);
            }
        }
    )*};
}
parsed_fields!(i32, i64, u32, u64, String);

impl Field for bool {
    /// As Java reads it: `true` in any case is true, everything else is false.
    fn read(ext: &ExtFields, name: &str) -> Result<Self, FieldError> {
        Ok(ext.required_str(name)?.eq_ignore_ascii_case("true"))
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push(name, self);
    }
}

impl<T: Field> Field for Option<T> {
    /// An empty value is as good as none.
    fn read(ext: &ExtFields, name: &str) -> Result<Self, FieldError> {
        match ext.get(name) {
            None | Some("") => Ok(None),
            Some(_) => T::read(ext, name).map(Some),
        }
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        if let Some(value) = self {
            value.write(name, ext);
        }
    }
}

/// The struct of a header, its `parse` and `write`.
///
/// `field: Type = "wireName"` is required unless the type is an option;
/// `field: Type = "wireName" or value` is `value` when absent.
macro_rules! header {
    (
        $(#[$meta:meta])*
        $name:ident { $(
            $(#[$field_meta:meta])*
            $field:ident: $type:ty = $wire:literal $(or $default:expr)?,
        )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name { $(
            $(#[$field_meta])*
            pub $field: $type,
        )* }

        impl $name {
            /// Reads the header of `command`.
            pub fn parse(
                command: &$crate::protocol::command::RemotingCommand,
            ) -> Result<Self, $crate::protocol::ext_fields::FieldError> {
                #[allow(unused_imports)]
                use $crate::protocol::headers::field::{Field as _, header_field};
                let _ext = &command.ext;
                Ok(Self { $(
                    $field: header_field!(_ext, $type, $wire $(, $default)?),
                )* })
            }

            /// Adds the fields to `ext`.
            pub fn write(&self, ext: &mut $crate::protocol::ext_fields::ExtFields) {
                #[allow(unused_imports)]
                use $crate::protocol::headers::field::Field as _;
                ext.show_empty();
                $( self.$field.write($wire, ext); )*
            }
        }
    };
}

macro_rules! header_field {
    ($ext:ident, $type:ty, $wire:literal) => {
        <$type>::read($ext, $wire)?
    };
    ($ext:ident, $type:ty, $wire:literal, $default:expr) => {
        Option::<$type>::read($ext, $wire)?.unwrap_or($default)
    };
}

/// A header of the request `CODE`.
macro_rules! request_header {
    ($(#[$meta:meta])* $code:ident $name:ident { $($fields:tt)* }) => {
        $crate::protocol::headers::field::header! { $(#[$meta])* $name { $($fields)* } }

        impl $name {
            /// The request that this is the header of.
            pub const CODE: $crate::protocol::codes::RequestCode =
                $crate::protocol::codes::RequestCode::$code;

            /// A request with this header.
            pub fn request(&self) -> $crate::protocol::command::RemotingCommand {
                let mut command = $crate::protocol::command::RemotingCommand::request(Self::CODE);
                self.write(&mut command.ext);
                command
            }
        }
    };
}

/// A header of an answer.
macro_rules! answer_header {
    ($(#[$meta:meta])* $name:ident { $($fields:tt)* }) => {
        $crate::protocol::headers::field::header! { $(#[$meta])* $name { $($fields)* } }

        impl $name {
            /// A successful answer with this header.
            pub fn answer(&self) -> $crate::protocol::command::RemotingCommand {
                let mut command = $crate::protocol::command::RemotingCommand::response(
                    $crate::protocol::codes::ResponseCode::SUCCESS,
                );
                self.write(&mut command.ext);
                command
            }
        }
    };
}

pub(super) use {answer_header, header, header_field, request_header};

#[cfg(test)]
mod tests {
    use crate::protocol::{
        codes::RequestCode, command::RemotingCommand, ext_fields::FieldError,
        headers::topic::CreateTopic,
    };

    fn create_topic() -> RemotingCommand {
        RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC)
            .with_field("topic", "T")
            .with_field("defaultTopic", "TBW102")
            .with_field("readQueueNums", 4)
            .with_field("writeQueueNums", 8)
            .with_field("perm", 6)
            .with_field("topicFilterType", "SINGLE_TAG")
            .with_field("order", "True")
            .with_field("attributes", "")
            .with_field("unknown", "x")
    }

    #[test]
    fn headers_are_read_by_name() {
        let header = CreateTopic::parse(&create_topic()).unwrap();
        assert_eq!((header.read_queue_nums, header.write_queue_nums), (4, 8));
        assert!(header.order && !header.force);
        assert_eq!(header.attributes, None);
        assert_eq!(CreateTopic::parse(&header.request()), Ok(header));
    }

    #[test]
    fn errors_name_the_field() {
        let missing = CreateTopic::parse(&RemotingCommand::default());
        assert_eq!(missing, Err(FieldError::missing("topic")));
        let negative = CreateTopic::parse(&create_topic().with_field("perm", -6));
        assert_eq!(negative, Err(FieldError::invalid("perm", "-6")));
        let optional = CreateTopic::parse(&create_topic().with_field("topicSysFlag", "x"));
        assert_eq!(optional, Err(FieldError::invalid("topicSysFlag", "x")));
    }
}
