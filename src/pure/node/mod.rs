//! node
mod messages;
mod view;
