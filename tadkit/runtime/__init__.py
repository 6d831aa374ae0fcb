"""What is installed beside tadkit: devices of torch, torchvision, and packages that add to tadkit."""
