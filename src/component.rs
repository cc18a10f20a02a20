//! What makes a component one file and one registry line.
//!
//! The parameter struct is the component: its doc comment, defaults, ranges and behaviour stand together, and parsing,
//! checks, the JSON schema, `runner explain` and the contract tests derive from it.

/// Declares a family of components: `components! { pub enum AugmentSpec: Augment { cutout::Cutout, .. } }`.
///
/// The module's name is the component's name everywhere: file, TOML, schema, messages. The enum has external tags
/// (`{ cutout = { size = 8 } }`), the only kind that keeps the caret of an error on the wrong value.
#[macro_export]
macro_rules! components {
    ($(#[$meta:meta])* pub enum $family:ident: $behaviour:ident { $($module:ident::$component:ident),+ $(,)? }) => {
        $(pub mod $module;)+

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema, garde::Validate)]
        #[allow(non_camel_case_types)]
        pub enum $family { $($module(#[garde(dive)] $module::$component)),+ }

        impl $family {
            /// The names of this family's components, as written in an experiment file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($module)),+];

            /// Every component of the family with its default parameters: the matrix of the contract tests.
            pub fn every() -> Vec<Self> {
                vec![$(Self::$module(Default::default())),+]
            }

            /// The component's name, as written in an experiment file.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$module(_) => stringify!($module)),+ }
            }

            /// The component's behaviour.
            pub fn as_dyn(&self) -> &dyn $behaviour {
                match self { $(Self::$module(component) => component),+ }
            }

            /// The same, to be changed.
            pub fn as_dyn_mut(&mut self) -> &mut dyn $behaviour {
                match self { $(Self::$module(component) => component),+ }
            }
        }
    };
}
