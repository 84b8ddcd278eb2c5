//! Methods by which a configuration is put together in one expression.

/// For each field of a configuration a method that gives it another value. `field` takes what becomes its type, `some` what
/// becomes the type within its `Option`.
macro_rules! setters {
    ($config:ident: $($kind:ident $with:ident $field:ident: $type:ty,)*) => {
        impl $config {
            $(setters!(@$kind $config $with $field $type);)*
        }
    };
    (@field $config:ident $with:ident $field:ident $type:ty) => {
        #[doc = concat!("The same with another [`", stringify!($config), "::", stringify!($field), "`].")]
        #[must_use]
        pub fn $with(mut self, $field: impl Into<$type>) -> Self {
            self.$field = $field.into();
            self
        }
    };
    (@some $config:ident $with:ident $field:ident $type:ty) => {
        #[doc = concat!("The same with a [`", stringify!($config), "::", stringify!($field), "`].")]
        #[must_use]
        pub fn $with(mut self, $field: impl Into<$type>) -> Self {
            self.$field = Some($field.into());
            self
        }
    };
}

pub(crate) use setters;
