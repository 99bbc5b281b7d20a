"""What a teacher says of images: file, folder, the reference's formats, writing, checking."""
