//! user_api
