"""Request and reply forms, one file a dialect; knows no policy and opens no connection."""
