-- Which requests without a message are to be forgotten next.
CREATE INDEX request_without_message_age ON request_without_message (created_at);
